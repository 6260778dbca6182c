// Python's global lock, given back and taken by C++ code so that Python can end at any moment.
//
// While Python ends, it does away with threads that ask for the lock: up to 3.13 by an exception that no destructor and
// no catch (...) may meet, or the process ends with SIGABRT. So from the moment on in which Python begins to end, its
// last thread alone gets the lock here; others wait for ever, which Python 3.14 does too. That moment comes after all
// threads that Python waits for have ended: these others are daemons.
//
// Other libraries' native code takes the lock by itself: while a thread is in there, it is kept from that moment by
// EndWaits, a context manager of Python's.
#pragma once

#include <pybind11/pybind11.h>

namespace gemmule {

// Gives the lock back while it lives.
class GilReleased {
 public:
  GilReleased();
  ~GilReleased();
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;

 private:
  PyThreadState* const thread_;
};

// Takes the lock while it lives, inside of a GilReleased.
class GilTaken {
 public:
  GilTaken();
  ~GilTaken();
  GilTaken(const GilTaken&) = delete;
  GilTaken& operator=(const GilTaken&) = delete;
};

// While it lives, this thread, which has the lock, may run Python's code, which gives it back and takes it again.
class PythonRuns {
 public:
  PythonRuns();
  ~PythonRuns();
  PythonRuns(const PythonRuns&) = delete;
  PythonRuns& operator=(const PythonRuns&) = delete;
};

// Has Python tell when it begins to end. Adds EndWaits: while it is entered, by this thread, Python's end waits for the
// thread, but two seconds at the most.
void BindGil(pybind11::module_& module);

}  // namespace gemmule
