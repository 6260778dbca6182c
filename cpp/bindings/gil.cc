#include "bindings/gil.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace py = pybind11;

namespace gemmule {
namespace {

std::atomic<bool> ending{false};
std::atomic<unsigned long> last_thread{0};  // once `ending`: the one that ends Python
std::atomic<int> inside{0};                 // threads that may be waiting for the lock inside of C++ code

// A forked child has none of these threads.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { inside = 0; });

// Counts this thread in, unless Python ends without it: then it stays here. Without the lock.
void Enter() {
  ++inside;
  if (!ending || last_thread == PyThread_get_thread_ident()) return;
  --inside;
  while (true) pause();
}

void Take(PyThreadState* thread) {
  Enter();
  PyEval_RestoreThread(thread);
  --inside;
}

// The last thread, with the lock: those that are inside come out first.
void End() {
  last_thread = PyThread_get_thread_ident();
  ending = true;
  const GilReleased released;
  while (inside != 0) std::this_thread::yield();
}

}  // namespace

GilReleased::GilReleased() : thread_(PyEval_SaveThread()) {}
GilReleased::~GilReleased() { Take(thread_); }

GilTaken::GilTaken() { Take(PyGILState_GetThisThreadState()); }
GilTaken::~GilTaken() { PyEval_SaveThread(); }

PythonRuns::PythonRuns() {
  ++inside;
  if (!ending || last_thread == PyThread_get_thread_ident()) return;
  --inside;
  const GilReleased for_ever;
}
PythonRuns::~PythonRuns() { --inside; }

void BindGil() { py::module_::import("atexit").attr("register")(py::cpp_function(&End)); }

}  // namespace gemmule
