// Threads. The only file that knows OpenMP is parallel.cc.
//
// Work is cut into pieces that threads take in turn; each piece is done by one thread in one order, so results do not
// depend on the number of threads. The calling thread asks `stop` between its pieces: a long call ends soon after
// somebody wants it to.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>

namespace gemmule {

class Parallel {
 public:
  // Asked on the calling thread only, every few microseconds to milliseconds; true: leave the rest undone.
  using StopCheck = std::function<bool()>;

  explicit Parallel(int threads) : threads_(threads) {}

  // body(begin, end) over pieces of [0, n), each but the last of a multiple of `step` elements. `cost` is what one
  // element takes, in nanoseconds, roughly: work that is shorter than waking the threads is done on the calling one.
  // The body must not throw. After a stop the pieces not yet begun are left out: the caller asks stopped() before it
  // uses results.
  template <class Body>
  void For(std::size_t n, std::size_t step, double cost, const Body& body) {
    if (n == 0) return;
    // About eight pieces a thread: late threads cost little, and `stop` is asked often.
    const std::size_t wanted = static_cast<std::size_t>(threads_) * 8;
    const std::size_t piece = (((n + wanted - 1) / wanted + step - 1) / step) * step;
    const auto run = [&](std::size_t i) { body(i * piece, std::min(n, (i + 1) * piece)); };
    const bool alone = threads_ == 1 || static_cast<double>(n) * cost < kTeamCost;
    Run((n + piece - 1) / piece, alone,
        [](const void* context, std::size_t i) { (*static_cast<const decltype(run)*>(context))(i); }, &run);
  }

  int threads() const { return threads_; }
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
  // From now on `stop` is asked (empty: nobody is), and an earlier stop is forgotten.
  void Reset(StopCheck stop) {
    stop_ = std::move(stop);
    stopped_.store(false, std::memory_order_relaxed);
  }

 private:
  // Nanoseconds of work for which waking the others is worth it (docs/decisions/0005).
  static constexpr double kTeamCost = 5000.0;

  // All threads or the calling one alone: libgomp ends and starts threads whenever the size of the team changes.
  void Run(std::size_t pieces, bool alone, void (*piece)(const void*, std::size_t), const void* context);

  int threads_;
  StopCheck stop_;
  std::atomic<bool> stopped_{false};
};

}  // namespace gemmule
