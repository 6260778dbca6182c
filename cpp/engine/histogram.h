// How values are distributed: what is kept of activations, of which there are too many to keep.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace gemmule {

// Bins are logarithmic: the values of one sign and binary exponent fall into kBins of equal width, less than 0.8 % of
// the value. Everything that is counted is a whole number, so that the order in which values come does not matter.
class Histogram {
 public:
  static constexpr std::size_t kBins = 128;  // of one sign and exponent: the first 7 bits of a float's mantissa

  // The magnitudes of `count` values. That of one is exact; of more, mean and variance are those of numbers spread
  // evenly over [mean - half_width, mean + half_width].
  struct Bin {
    bool negative;
    double count;
    double mean;
    double half_width;
  };

  void Add(std::span<const float> x);
  void Add(const Histogram& other);
  // Forgets what was counted; keeps the memory.
  void Clear();

  // Whether a NaN or an infinity was counted.
  bool HasNonfinite() const;
  // The bins that are not empty, but for subnormal numbers, which count as 0.
  std::vector<Bin> Bins() const;

 private:
  static constexpr std::size_t kExponents = 256;  // a float's 8 bits; the last one's values are not finite

  // Of the 16 last bits of the mantissas, which say where in its bin a value lies. Enough for 2^32 values in a bin.
  struct Sums {
    std::uint64_t count = 0;
    std::uint64_t sum = 0;
    std::uint64_t squares = 0;
  };

  // kBins by sign and exponent; none where nothing was counted.
  std::array<std::vector<Sums>, 2 * kExponents> sums_;
};

}  // namespace gemmule
