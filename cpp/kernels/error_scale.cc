#include "kernels/error_scale.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/error_scale.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Calls add(v, sums) for all vectors of x, and adds up the lanes of kSums sums.
template <std::size_t kSums, class Add>
HWY_INLINE void SumsOver(const float* x, std::size_t n, float (&out)[kSums], const Add& add) {
  VF32 sums[kSums][kRegs];
  for (auto& sum : sums) {
    for (VF32& s : sum) s = hn::Zero(F32());
  }
  for (std::size_t i = 0; i < n; i += kVirtualLanes) {
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
      const std::size_t at = i + r * kLanes;
      if (at >= n) return;
      add(LoadCount(x + at, HWY_MIN(kLanes, n - at)),
          [&](auto which) GEMMULE_LAMBDA -> VF32& { return sums[which][r]; });
    });
  }
  Unroll<kSums>([&](auto which) GEMMULE_LAMBDA { out[which] = ReduceLanes16(sums[which]); });
}

using First = std::integral_constant<std::size_t, 0>;
using Second = std::integral_constant<std::size_t, 1>;
using Third = std::integral_constant<std::size_t, 2>;
using Fourth = std::integral_constant<std::size_t, 3>;

float AbsmaxScale(CodeRange range, const float* x, std::size_t n) { return MaxAbs(x, n) / range.max; }

// Newton's method on the derivative, which is linear between the scales at which a weight passes an end. It starts
// where most weights lie beyond the ends, and rises.
float ExpectedErrorScale(CodeRange range, const float* x, std::size_t n) {
  constexpr int kMostSteps = 32;
  const F32 d;
  const VF32 one = hn::Set(d, 1.0f);
  float magnitudes[1];
  SumsOver(x, n, magnitudes,
           [&](VF32 v, const auto& sum) GEMMULE_LAMBDA { sum(First()) = hn::Add(sum(First()), hn::Abs(v)); });
  float scale = magnitudes[0] / (static_cast<float>(n) * -range.min);
  for (int step = 0; step < kMostSteps; ++step) {
    const VF32 first = hn::Set(d, range.min * scale);
    const VF32 last = hn::Set(d, range.max * scale);
    float sums[4];  // of the weights above, of those below, and how many they are
    SumsOver(x, n, sums, [&](VF32 v, const auto& sum) GEMMULE_LAMBDA {
      const auto is_above = hn::Gt(v, last);
      const auto is_below = hn::Lt(v, first);
      sum(First()) = hn::Add(sum(First()), hn::IfThenElseZero(is_above, v));
      sum(Second()) = hn::Sub(sum(Second()), hn::IfThenElseZero(is_below, v));
      sum(Third()) = hn::Add(sum(Third()), hn::IfThenElseZero(is_above, one));
      sum(Fourth()) = hn::Add(sum(Fourth()), hn::IfThenElseZero(is_below, one));
    });
    const float within = static_cast<float>(n) - sums[2] - sums[3];
    const float squares = range.max * range.max * sums[2] + range.min * range.min * sums[3];
    const float next = (range.max * sums[0] - range.min * sums[1]) / (within / 12.0f + squares);
    if (!(next > scale)) break;
    scale = next;
  }
  return scale;
}

// x in steps of a scale, and its code.
struct Steps {
  Steps(CodeRange range, float scale)
      : inverse(hn::Set(F32(), 1.0f / scale)),
        min(hn::Set(F32(), range.min)),
        max(hn::Set(F32(), range.max)),
        scale(hn::Set(F32(), scale)) {}

  HWY_INLINE VF32 Code(VF32 v) const { return hn::Min(hn::Max(hn::Round(hn::Mul(v, inverse)), min), max); }

  VF32 inverse;
  VF32 min;
  VF32 max;
  VF32 scale;
};

float SquaredError(CodeRange range, const float* x, std::size_t n, float scale) {
  const Steps steps(range, scale);
  return SumOver(n, [&](std::size_t i, std::size_t count, VF32 sum) GEMMULE_LAMBDA {
    const VF32 v = LoadCount(x + i, count);
    const VF32 error = hn::NegMulAdd(steps.Code(v), steps.scale, v);
    return hn::MulAdd(error, error, sum);
  });
}

// The best scale for the codes that `scale` gives; `scale` itself where all codes are 0.
HWY_INLINE float BestForCodes(CodeRange range, const float* x, std::size_t n, float scale) {
  const Steps steps(range, scale);
  float sums[2];
  SumsOver(x, n, sums, [&](VF32 v, const auto& sum) GEMMULE_LAMBDA {
    const VF32 code = steps.Code(v);
    sum(First()) = hn::MulAdd(code, v, sum(First()));
    sum(Second()) = hn::MulAdd(code, code, sum(Second()));
  });
  return sums[1] > 0.0f ? sums[0] / sums[1] : scale;
}

float LeastSquaresScale(CodeRange range, const float* x, std::size_t n) {
  constexpr int kCoarse = 20;
  constexpr float kCoarseStep = 1.18920712f;  // 2^(1/4)
  constexpr float kHopeless = 8.0f;           // times the least error: too many weights are beyond the ends
  constexpr int kFine = 16;
  constexpr float kFineStep = 1.01088929f;  // 2^(1/64)
  float best = AbsmaxScale(range, x, n);
  if (!(best > 0.0f)) return best;
  float scale = best;
  float least_error = SquaredError(range, x, n, best);
  const auto try_scale = [&](float tried) GEMMULE_LAMBDA {
    const float error = SquaredError(range, x, n, tried);
    if (error < least_error) {
      least_error = error;
      best = tried;
    }
    return error;
  };
  for (int i = 0; i < kCoarse; ++i) {
    scale /= kCoarseStep;
    if (try_scale(scale) > kHopeless * least_error) break;
  }
  try_scale(ExpectedErrorScale(range, x, n));
  scale = best / kCoarseStep;
  for (int i = -kFine; i <= kFine; ++i, scale *= kFineStep) try_scale(scale);
  for (int i = 0; i < 2; ++i) try_scale(BestForCodes(range, x, n, best));
  return best;
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(AbsmaxScale);
HWY_EXPORT(ExpectedErrorScale);
HWY_EXPORT(LeastSquaresScale);
HWY_EXPORT(SquaredError);

float AbsmaxScale(CodeRange range, std::span<const float> x) noexcept {
  return HWY_DYNAMIC_DISPATCH(AbsmaxScale)(range, x.data(), x.size());
}

float ExpectedErrorScale(CodeRange range, std::span<const float> x) noexcept {
  return HWY_DYNAMIC_DISPATCH(ExpectedErrorScale)(range, x.data(), x.size());
}

float LeastSquaresScale(CodeRange range, std::span<const float> x) noexcept {
  return HWY_DYNAMIC_DISPATCH(LeastSquaresScale)(range, x.data(), x.size());
}

float SquaredError(CodeRange range, std::span<const float> x, float scale) noexcept {
  return HWY_DYNAMIC_DISPATCH(SquaredError)(range, x.data(), x.size(), scale);
}

}  // namespace gemmule
#endif  // HWY_ONCE
