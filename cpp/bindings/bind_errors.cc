// Our C++ exceptions become the Python classes of the same names in gemmule.errors.
#include <exception>
#include <string_view>

#include "base/error.h"
#include "bindings/bind.h"

namespace gemmule {
namespace {

void Raise(const char* name, const Error& error) {
  using namespace py::literals;
  const PythonRuns python;
  // Paths are in whatever bytes they are.
  const auto words = [](std::string_view value) {
    PyObject* const decoded =
        PyUnicode_DecodeUTF8(value.data(), static_cast<py::ssize_t>(value.size()), "surrogateescape");
    if (decoded == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(decoded);
  };
  const auto text = [&](const std::string& value) { return value.empty() ? py::object(py::none()) : words(value); };
  const Where& where = error.where();
  try {
    const py::object type = py::module_::import("gemmule.errors").attr(name);
    const py::object instance =
        type(words(error.what()), "remedy"_a = words(error.remedy()), "file"_a = text(where.file),
             "tensor"_a = text(where.tensor), "offset"_a = where.offset, "expected"_a = text(where.expected),
             "found"_a = text(where.found));
    PyErr_SetObject(type.ptr(), instance.ptr());
  } catch (py::error_already_set& other) {
    other.restore();  // Python has run: a handler of signals may have raised, or its memory been too little
  }
}

void Translate(std::exception_ptr pointer) {  // NOLINT(performance-unnecessary-value-param): pybind11's signature
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const FormatError& error) {
    Raise("FormatError", error);
  } catch (const UnsupportedError& error) {
    Raise("UnsupportedError", error);
  } catch (const ResourceError& error) {
    Raise("ResourceError", error);
  } catch (const ContextError& error) {
    Raise("ContextError", error);
  } catch (const ArgumentError& error) {
    Raise("ArgumentError", error);
  } catch (const std::bad_alloc&) {
    Raise("ResourceError",
          ResourceError("out of memory",
                        "End other programs, or use a smaller context, a smaller model or kv=\"static\"."));
  }
}

}  // namespace

void BindErrors(py::module_&) { py::register_local_exception_translator(&Translate); }

}  // namespace gemmule
