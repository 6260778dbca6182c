#include "kernels/trained_scale.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>

#include "kernels/training_marks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/trained_scale.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// sum of counts[i] * scores[i], both integers: exact, so in any order. n is a multiple of kVirtualLanes.
float Match(const float* counts, const float* scores, std::size_t n) {
  const F32 d;
  VF32 sums[4];
  for (VF32& sum : sums) sum = hn::Zero(d);
  for (std::size_t i = 0; i < n; i += 4 * kLanes) {
    Unroll<4>([&](auto r) GEMMULE_LAMBDA {
      const std::size_t at = i + r * kLanes;
      sums[r] = hn::MulAdd(hn::LoadU(d, counts + at), hn::LoadU(d, scores + at), sums[r]);
    });
  }
  return hn::ReduceSum(d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {
namespace {

HWY_EXPORT(Match);

constexpr int kBins = TrainingMarks::kBins;
constexpr int kBinsPerOctave = TrainingMarks::kBinsPerOctave;
constexpr int kReach = 52;                                             // bins: 2^(52/256) is 1.15
constexpr double kSpread = 0.03 / std::numbers::ln2 * kBinsPerOctave;  // of scales around the expected one, bins
constexpr double kClear = 4.0;                                         // standard deviations

// Bins of 2^(i / 1024 of a mantissa): as many as a float16 has. They are exact for bfloat16 and float16.
constexpr int kMantissaBits = 10;
using BinOfMantissa = std::array<std::uint8_t, 1 << kMantissaBits>;

const BinOfMantissa& Bins() {
  static const BinOfMantissa bins = [] {
    BinOfMantissa made;
    for (std::size_t i = 0; i < made.size(); ++i) {
      made[i] = static_cast<std::uint8_t>(std::log2(1.0 + static_cast<double>(i) / made.size()) * kBinsPerOctave);
    }
    return made;
  }();
  return bins;
}

// floor(log2|x| * kBinsPerOctave) of a normal x, the mantissa cut to ten bits; of others some number below.
int BinOf(const BinOfMantissa& bins, float x) {
  const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFF;
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  return exponent * kBinsPerOctave + bins[(magnitude >> (23 - kMantissaBits)) & (bins.size() - 1)];
}

// How many weights of a sign lie in a bin, from the first that has marks at the least scale to the last at the largest.
struct Histogram {
  static constexpr int kSize = kBins + 2 * kReach + 16;  // the last ones stay 0: vectors end there

  Histogram(std::span<const float> x, int scale_bin) {
    std::memset(counts, 0, sizeof counts);
    const BinOfMantissa& bins = Bins();
    const int first = scale_bin + TrainingMarks::kFirstBin - kReach;
    for (const float weight : x) {
      const int at = BinOf(bins, weight) - first;
      if (at >= 0 && at < kBins + 2 * kReach) counts[std::signbit(weight)][at] += 1.0f;
    }
  }

  alignas(64) float counts[2][kSize];
};

}  // namespace

std::optional<float> TrainedScale(int bits, std::span<const float> x, float expected) noexcept {
  const TrainingMarks& marks = MarksOf(bits);
  const int middle = static_cast<int>(std::nearbyint(std::log2(expected) * kBinsPerOctave));
  const Histogram histogram(x, middle);
  double best_score = 0.0;  // of the marks
  double best_total = -1e300;
  int best = 0;
  for (int shift = -kReach; shift <= kReach; ++shift) {
    double score = 0.0;
    for (std::size_t side = 0; side < 2; ++side) {
      score += HWY_DYNAMIC_DISPATCH(Match)(histogram.counts[side] + kReach + shift, marks.scores[side].data(), kBins);
    }
    const double away = shift / kSpread;
    const double total = score / TrainingMarks::kUnit - away * away / 2;
    if (total <= best_total) continue;
    best_total = total;
    best_score = score;
    best = shift;
  }
  const bool is_clear = best_score > kClear * marks.deviation * std::sqrt(static_cast<double>(x.size()));
  if (!is_clear) return std::nullopt;
  return std::exp2(static_cast<float>(middle + best) / kBinsPerOctave);
}

}  // namespace gemmule
#endif  // HWY_ONCE
