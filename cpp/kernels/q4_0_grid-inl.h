// The scales from which a block's 32 elements can come as elements of Q4_0.

#if defined(GEMMULE_KERNELS_Q4_0_GRID_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_Q4_0_GRID_INL_H_
#undef GEMMULE_KERNELS_Q4_0_GRID_INL_H_
#else
#define GEMMULE_KERNELS_Q4_0_GRID_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "kernels/encode-inl.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Finds the scales from which a block's elements can come.
//
// If the largest magnitude is k steps, k = 1 ... 8, the step is known but for the rounding of that element, and with it
// every other element's code. Then each element bounds the step from both sides, and any float16 between all bounds
// fits.
class GridFit {
 public:
  HWY_INLINE GridFit(const SourceType& source, const GroupVectors& v) : source_(source) {
    const U32 du;
    bool has_plus_zero = false;
    bool has_minus_zero = false;
    Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA {
      v_[r] = v[r];
      const auto bits = hn::BitCast(du, v[r]);
      has_plus_zero |= !hn::AllFalse(du, hn::Eq(bits, hn::Zero(du)));
      has_minus_zero |= !hn::AllFalse(du, hn::Eq(bits, hn::Set(du, 0x80000000u)));
    });
    zeros_are_negative_ = has_minus_zero && !has_plus_zero;
  }

  // Zeros come back with the sign of the scale.
  bool zeros_are_negative() const { return zeros_are_negative_; }

  // The fitting scale with the least squared error, 0 where none fits. Of float32 weights it fits all that lie within
  // 2^-18 of a product. magnitude > 0: that of the largest element.
  HWY_INLINE float Scale(float magnitude) const {
    float best = 0.0f;
    float least_error = std::numeric_limits<float>::infinity();
    for (int steps = 1; steps <= 8; ++steps) {
      GroupVectors codes;
      if (!FindCodes(magnitude, static_cast<float>(steps), codes)) continue;
      const bool has_plus_8 = HasCode(codes, 8.0f);
      const bool has_minus_8 = HasCode(codes, -8.0f);
      if (has_plus_8 && has_minus_8) continue;
      const float step = FindStep(codes);
      if (step == 0.0f) continue;
      const float error = SquaredError(codes, step);
      if (error < least_error) {
        least_error = error;
        best = has_plus_8 || (zeros_are_negative_ && !has_minus_8) ? -step : step;
      }
    }
    return best;
  }

 private:
  // Codes -8 ... 8 by the step magnitude / steps. False where an element is farther from its code than two roundings to
  // bfloat16 explain, 2^-8 each.
  HWY_INLINE bool FindCodes(float magnitude, float steps, GroupVectors& codes) const {
    const F32 d;
    const VF32 step = hn::Set(d, magnitude / steps);
    const VF32 inverse = hn::Set(d, steps / magnitude);
    const VF32 tolerance = hn::Set(d, 0.008f);
    bool near = true;
    Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA {
      codes[r] = hn::Round(hn::Mul(v_[r], inverse));
      const VF32 distance = hn::Abs(hn::NegMulAdd(codes[r], step, v_[r]));
      near &= hn::AllTrue(d, hn::Le(distance, hn::Mul(hn::Abs(v_[r]), tolerance)));
    });
    return near;
  }

  HWY_INLINE static bool HasCode(const GroupVectors& codes, float code) {
    const F32 d;
    bool found = false;
    Unroll<kGroupVectors>([&](auto r)
                              GEMMULE_LAMBDA { found |= !hn::AllFalse(d, hn::Eq(codes[r], hn::Set(d, code))); });
    return found;
  }

  // Of the float16 > 0 that fit these codes the one nearest to the least squares' step; 0 where none fits.
  HWY_INLINE float FindStep(const GroupVectors& codes) const {
    const F32 d;
    VF32 lowest = hn::Zero(d);
    VF32 highest = hn::Set(d, std::numeric_limits<float>::infinity());
    VF32 products[kRegs];
    VF32 squares[kRegs];
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA { products[r] = squares[r] = hn::Zero(d); });
    Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA {
      const VF32 code = hn::Abs(codes[r]);
      VF32 low, high;
      source_.Interval(hn::Abs(v_[r]), low, high);
      const auto is_zero = hn::Eq(code, hn::Zero(d));
      lowest = hn::Max(lowest, hn::IfThenZeroElse(is_zero, hn::Div(low, code)));
      highest = hn::Min(highest, hn::IfThenElse(is_zero, highest, hn::Div(high, code)));
      products[r % kRegs] = hn::MulAdd(codes[r], v_[r], products[r % kRegs]);
      squares[r % kRegs] = hn::MulAdd(code, code, squares[r % kRegs]);
    });
    const float least = HalfNotBelow(hn::ReduceMax(d, lowest));
    const float most = HalfNotAbove(hn::ReduceMin(d, highest));
    if (!(least <= most)) return 0.0f;
    const float best = FloatFromF16(HalfBits(ReduceLanes16(products) / ReduceLanes16(squares)));
    return HWY_MIN(HWY_MAX(best, least), most);
  }

  HWY_INLINE float SquaredError(const GroupVectors& codes, float step) const {
    const F32 d;
    VF32 sum[kRegs];
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA { sum[r] = hn::Zero(d); });
    Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA {
      const VF32 error = hn::NegMulAdd(codes[r], hn::Set(d, step), v_[r]);
      sum[r % kRegs] = hn::MulAdd(error, error, sum[r % kRegs]);
    });
    return ReduceLanes16(sum);
  }

  SourceType source_;
  GroupVectors v_;
  bool zeros_are_negative_;
};

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_Q4_0_GRID_INL_H_
