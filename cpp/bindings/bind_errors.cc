// Our C++ exceptions become the Python classes of the same names in gemmule.errors.
#include <exception>

#include "base/error.h"
#include "bindings/bind.h"

namespace gemmule {
namespace {

void Raise(const char* name, const Error& error) {
  using namespace py::literals;
  const PythonRuns python;
  const auto text = [](const std::string& value) -> py::object {
    return value.empty() ? py::object(py::none()) : py::object(py::str(value));
  };
  const Where& where = error.where();
  const py::object type = py::module_::import("gemmule.errors").attr(name);
  const py::object instance =
      type(error.what(), "remedy"_a = error.remedy(), "file"_a = text(where.file), "tensor"_a = text(where.tensor),
           "offset"_a = where.offset, "expected"_a = text(where.expected), "found"_a = text(where.found));
  PyErr_SetObject(type.ptr(), instance.ptr());
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
