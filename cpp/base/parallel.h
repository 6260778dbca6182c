// Loops shared out among threads.
//
// Work is cut into pieces that threads take in turn; each piece is done by one thread in one order, so results do not
// depend on the number of threads. The calling thread asks `stop` between its pieces: a long call ends soon after
// somebody wants it to.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>

#include "base/pieces.h"
#include "base/profile.h"
#include "base/workers.h"

namespace gemmule {

// A call was ended by its stop check.
struct Stopped : std::exception {};

// What went wrong first in a parallel region, on whichever thread: no exception may leave a worker, and none the
// calling thread as long as others work for it.
class Failure {
 public:
  bool happened() const { return happened_.load(std::memory_order_relaxed); }
  // In a catch clause.
  void Keep() noexcept {
    if (!happened_.exchange(true)) error_ = std::current_exception();
  }
  // Once all threads are done.
  void Rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> happened_{false};
  std::exception_ptr error_;
};

class Parallel {
 public:
  // Asked on the calling thread only, every few microseconds to milliseconds; true: leave the rest undone.
  using StopCheck = std::function<bool()>;

  // `workers` must outlive it.
  explicit Parallel(Workers& workers) : workers_(workers) {}

  // body(begin, end) over pieces of [0, n), each but the last of a multiple of `step` elements. `cost` is what one
  // element takes, in nanoseconds, roughly: work that is shorter than calling the others is done on the calling thread.
  // What a body throws first comes out of this when no thread works on it any more. After that and after a stop the
  // pieces not yet begun are left out: the caller asks stopped() before it uses results.
  template <class Body>
  void For(std::size_t n, std::size_t step, double cost, const Body& body) {
    if (n == 0) return;
    if (static_cast<double>(n) * cost < kTeamCost) {
      if (!stopped()) body(std::size_t{0}, n);
      Ask();
      return;
    }
    const Pieces pieces((n + step - 1) / step, static_cast<std::size_t>(workers_.threads()));
    Failure failure;
    const auto run = [&](std::size_t i) noexcept {
      if (stopped() || failure.happened()) return;
      try {
        body(pieces.Begin(i) * step, std::min(n, pieces.Begin(i + 1) * step));
      } catch (...) {
        failure.Keep();
      }
    };
    const auto call = [](const void* context, std::size_t i) { (*static_cast<const decltype(run)*>(context))(i); };
    if (profile_ != nullptr) profile_->BeginRegion();
    workers_.Run(pieces.count(), call, &run, [this] {
      if (profile_ != nullptr) profile_->EndPiece();
      Ask();
    });
    if (profile_ != nullptr) profile_->EndRegion();
    failure.Rethrow();
  }

  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
  void ThrowIfStopped() const {
    if (stopped()) throw Stopped();
  }
  // While it lives, its Parallel's work asks `stop` (empty: nobody). An earlier stop is forgotten.
  class Asking {
   public:
    Asking(Parallel& parallel, const StopCheck& stop) : parallel_(parallel) { parallel.Reset(stop); }
    ~Asking() { parallel_.Reset({}); }
    Asking(const Asking&) = delete;
    Asking& operator=(const Asking&) = delete;

   private:
    Parallel& parallel_;
  };
  // From now on parallel regions are told to `profile`, which must outlive the calls to come; null: to nobody.
  void Watch(Profile* profile) { profile_ = profile; }

 private:
  // Nanoseconds of work for which calling the other threads is worth it (docs/decisions/0005).
  static constexpr double kTeamCost = 5000.0;

  void Reset(StopCheck stop) {
    stop_ = std::move(stop);
    stopped_.store(false, std::memory_order_relaxed);
  }
  void Ask() {
    if (stop_ && stop_()) stopped_.store(true, std::memory_order_relaxed);
  }

  Workers& workers_;
  StopCheck stop_;
  Profile* profile_ = nullptr;
  std::atomic<bool> stopped_{false};
};

}  // namespace gemmule
