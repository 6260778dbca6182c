// Work cut into pieces that threads take in turn.
#pragma once

#include <algorithm>
#include <cstddef>

namespace gemmule {

// The first pieces are long, one for each thread out of half of the work, so that a thread reads much memory in order.
// Each round of pieces has half of what was left, down to a sixteenth of a thread's part: all end at about the same
// time, however fast they are (docs/decisions/0023).
class Pieces {
 public:
  // n >= 1 elements for `threads` >= 1.
  Pieces(std::size_t n, std::size_t threads)
      : n_(n), threads_(threads), least_((n + 16 * threads - 1) / (16 * threads)) {}

  std::size_t count() const {
    const Round last = RoundOf([this](const Round& round) { return End(round) >= n_; });
    return last.first + (n_ - last.begin + last.size - 1) / last.size;
  }
  // Where piece i <= count() begins: n for count().
  std::size_t Begin(std::size_t i) const {
    const Round round = RoundOf([&](const Round& r) { return i < r.first + threads_ || End(r) >= n_; });
    return std::min(n_, round.begin + (i - round.first) * round.size);
  }

 private:
  // As many pieces of one size as there are threads.
  struct Round {
    std::size_t first = 0;  // piece
    std::size_t begin = 0;  // its first element
    std::size_t size = 0;   // elements of each piece
  };

  std::size_t End(const Round& round) const { return round.begin + threads_ * round.size; }
  std::size_t Size(std::size_t begin) const {
    return std::max(least_, std::min((n_ - begin) / (2 * threads_), n_ / kLeastPieces));
  }

  template <class Wanted>
  Round RoundOf(const Wanted& wanted) const {
    Round round{.size = Size(0)};
    while (!wanted(round)) {
      round.first += threads_;
      round.begin = End(round);
      round.size = Size(round.begin);
    }
    return round;
  }

  static constexpr std::size_t kLeastPieces = 8;  // of few threads too: between pieces a caller may be asked to stop

  std::size_t n_;
  std::size_t threads_;
  std::size_t least_;  // elements of a piece
};

}  // namespace gemmule
