// What the parts of the Python module share. Each bind_*.cc adds one class.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/workers.h"
#include "bindings/gil.h"
#include "engine/decoder.h"
#include "formats/json.h"
#include "quant/encoding.h"

namespace gemmule {

namespace py = pybind11;

// Of a file, in the bytes that it has on the disk: they need not be UTF-8.
using Path = std::filesystem::path;

// Bound with .noconvert(): the Python face converts.
using Tokens = py::array_t<std::int32_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;

void BindErrors(py::module_& module);
void BindFiles(py::module_& module);
void BindModel(py::module_& module);
void BindDecoder(py::module_& module);
void BindBatch(py::module_& module);
void BindDrafter(py::module_& module, py::module_& testing);
void BindSampler(py::module_& module);
void BindSource(py::module_& module);
void BindCalibration(py::module_& module);
void BindTokenizer(py::module_& module, py::module_& testing);
void BindTesting(py::module_& module);
void BindBench(py::module_& module);

// A (N,) array of these values. Not made by numpy, which gives the lock back while it copies more than 500 values:
// where Python ends meanwhile, that would end the thread in the midst of C++ code (gil.h).
template <class T>
py::array_t<T, py::array::c_style> ArrayOf(const std::vector<T>& values) {
  py::array_t<T, py::array::c_style> array(static_cast<py::ssize_t>(values.size()));
  std::copy(values.begin(), values.end(), array.mutable_data());
  return array;
}

// The ids of a (T,) array, copied: another thread may write into the array while the call runs. Throws ArgumentError
// for another shape.
std::vector<std::int32_t> Ids(const Tokens& tokens);

// The logits of a (V,) array, V >= 1. Throws ArgumentError for another shape, and where they lie askew in memory.
std::span<const float> LogitRow(const Floats& logits);

// Pointers to objects that live until the call is done, whatever becomes of the list they came in. Throws ArgumentError
// where one is None.
template <class T>
std::vector<T*> Pointers(const std::vector<std::shared_ptr<T>>& objects) {
  std::vector<T*> pointers;
  for (const auto& object : objects) {
    if (object == nullptr) throw ArgumentError("a list of objects has a None in it");
    pointers.push_back(object.get());
  }
  return pointers;
}

// By the name that encoding.h gives it. Throws ArgumentError for another name.
Encoding EncodingNamed(const std::string& name);

// A file's path as Python has it, from its bytes.
py::str FileText(const std::string& path);

// As Python's json module would have it.
py::object ToPython(const JsonValue& value);

// The fields of a model's config that Python asks for, in the words of config.json.
py::dict ConfigDict(const Config& config);

// Asks Python for pending signals, at most every 20 ms; true once a handler has raised. Made with the GIL held, asked
// without it, on the same thread.
Parallel::StopCheck AskForSignals();

// Python's warning, once a process, where the threads that are to compute stayed behind in another one, of which this
// is a fork.
void WarnOfFork(const Workers& workers);

// Runs call(stop) without the GIL; a handler's exception (KeyboardInterrupt) comes out of it.
template <class Call>
void WithoutGil(const Call& call) {
  const Parallel::StopCheck stop = AskForSignals();
  try {
    const GilReleased nogil;
    call(stop);
  } catch (...) {  // Stopped, or what came up between the handler's exception and the next look at it
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    throw;
  }
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();  // raised after the last step
}

// The same for what computes on these threads.
template <class Call>
void WithoutGil(const Workers& workers, const Call& call) {
  WarnOfFork(workers);
  WithoutGil(call);
}

}  // namespace gemmule
