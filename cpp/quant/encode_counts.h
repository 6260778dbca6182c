// What encoding did to some weights: sums, so that those of pieces add up.
#pragma once

#include <cstdint>

namespace gemmule {

struct EncodeCounts {
  std::uint64_t elements = 0;
  std::uint64_t on_grid = 0;    // in blocks, rows or floats that came back whole; 0 and -0 are the same weight
  std::uint64_t saturated = 0;  // clamped to the last code on their side: |x - decoded| is over half a step
  std::uint64_t nonfinite = 0;  // NaN or infinite, and encoded as 0
  double squares = 0.0;         // of x
  double error_squares = 0.0;   // of x - decoded

  EncodeCounts& operator+=(const EncodeCounts& other) {
    elements += other.elements;
    on_grid += other.on_grid;
    saturated += other.saturated;
    nonfinite += other.nonfinite;
    squares += other.squares;
    error_squares += other.error_squares;
    return *this;
  }
};

}  // namespace gemmule
