#include "bindings/gil.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace py = pybind11;

namespace gemmule {
namespace {

struct EndWaits {};

std::atomic<bool> ending{false};
std::atomic<unsigned long> last_thread{0};  // once `ending`: the one that ends Python
std::atomic<int> inside{0};                 // threads that may be waiting for the lock inside of native code
thread_local int depth = 0;                 // how many reasons this thread has to be among them

// A forked child has none of the other threads.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { inside = depth == 0 ? 0 : 1; });

// Counts this thread in. False where it comes too late: Python ends without it.
bool Enter() {
  if (depth++ != 0) return true;
  ++inside;
  if (!ending || last_thread == PyThread_get_thread_ident()) return true;
  --inside;
  return false;
}

void Leave() {
  if (--depth == 0) --inside;
}

// Without the lock.
[[noreturn]] void WaitForEver() {
  while (true) pause();
}

void EnterWithTheLock() {
  if (Enter()) return;
  PyEval_SaveThread();
  WaitForEver();
}

void Take(PyThreadState* thread) {
  if (!Enter()) WaitForEver();
  PyEval_RestoreThread(thread);
  Leave();
}

// The last thread, with the lock: those that are inside come out first, if they do.
void End() {
  constexpr std::chrono::seconds kLongest{2};
  last_thread = PyThread_get_thread_ident();
  ending = true;
  const GilReleased released;
  const auto until = std::chrono::steady_clock::now() + kLongest;
  while (inside != 0 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
}

}  // namespace

GilReleased::GilReleased() : thread_(PyEval_SaveThread()) {}
GilReleased::~GilReleased() { Take(thread_); }

GilTaken::GilTaken() { Take(PyGILState_GetThisThreadState()); }
GilTaken::~GilTaken() { PyEval_SaveThread(); }

PythonRuns::PythonRuns() { EnterWithTheLock(); }
PythonRuns::~PythonRuns() { Leave(); }

void BindGil(py::module_& module) {
  py::module_::import("atexit").attr("register")(py::cpp_function(&End));
  py::class_<EndWaits>(module, "EndWaits")
      .def(py::init<>())
      .def("__enter__", [](EndWaits&) { EnterWithTheLock(); })
      .def("__exit__", [](EndWaits&, const py::args&) { Leave(); });
}

}  // namespace gemmule
