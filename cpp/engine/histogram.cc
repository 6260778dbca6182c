#include "engine/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace gemmule {

void Histogram::Add(std::span<const float> x) {
  for (const float value : x) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    std::vector<Sums>& sums = sums_[bits >> 23];
    if (sums.empty()) sums.resize(kBins);
    Sums& bin = sums[bits >> 16 & (kBins - 1)];
    const std::uint64_t place = bits & 0xFFFF;
    ++bin.count;
    bin.sum += place;
    bin.squares += place * place;
  }
}

void Histogram::Add(const Histogram& other) {
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const std::vector<Sums>& more = other.sums_[i];
    if (more.empty()) continue;
    sums_[i].resize(kBins);
    for (std::size_t j = 0; j < kBins; ++j) {
      sums_[i][j].count += more[j].count;
      sums_[i][j].sum += more[j].sum;
      sums_[i][j].squares += more[j].squares;
    }
  }
}

void Histogram::Clear() {
  for (std::vector<Sums>& sums : sums_) std::fill(sums.begin(), sums.end(), Sums());
}

bool Histogram::HasNonfinite() const {
  const auto any = [](const std::vector<Sums>& sums) {
    return std::any_of(sums.begin(), sums.end(), [](const Sums& bin) { return bin.count != 0; });
  };
  return any(sums_[kExponents - 1]) || any(sums_[2 * kExponents - 1]);
}

std::vector<Histogram::Bin> Histogram::Bins() const {
  std::vector<Bin> bins;
  for (const bool negative : {false, true}) {
    for (std::size_t exponent = 1; exponent < kExponents - 1; ++exponent) {
      const std::vector<Sums>& sums = sums_[negative ? kExponents + exponent : exponent];
      const double unit = std::ldexp(1.0, static_cast<int>(exponent) - 127 - 23);  // of the mantissa's last bit
      for (std::size_t j = 0; j < sums.size(); ++j) {
        if (sums[j].count == 0) continue;
        const auto count = static_cast<double>(sums[j].count);
        const double mean = static_cast<double>(sums[j].sum) / count;
        const double variance = std::max(0.0, static_cast<double>(sums[j].squares) / count - mean * mean);
        const double low = static_cast<double>((kBins + j) << 16);
        bins.push_back({negative, count, unit * (low + mean), unit * std::sqrt(3.0 * variance)});
      }
    }
  }
  return bins;
}

}  // namespace gemmule
