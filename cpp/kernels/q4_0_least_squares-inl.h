// The scale that gives a block's 32 elements the least squared error in Q4_0.

#if defined(GEMMULE_KERNELS_Q4_0_LEAST_SQUARES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_Q4_0_LEAST_SQUARES_INL_H_
#undef GEMMULE_KERNELS_Q4_0_LEAST_SQUARES_INL_H_
#else
#define GEMMULE_KERNELS_Q4_0_LEAST_SQUARES_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"
#include "kernels/encode-inl.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// A float16 of the sign of x that is neither 0 nor infinite: the nearest of them.
HWY_INLINE VF32 NearestScale(VF32 x) {
  const F32 d;
  const VF32 magnitude = NearestHalf(hn::Min(hn::Abs(x), hn::Set(d, 65504.0f)));
  return hn::CopySign(hn::Max(magnitude, hn::Set(d, 0x1p-24f)), x);
}

HWY_INLINE VF32 Q4_0Code(VF32 element, VF32 inverse_scale) {
  const F32 d;
  return hn::Min(hn::Max(hn::Round(hn::Mul(element, inverse_scale)), hn::Set(d, -8.0f)), hn::Set(d, 7.0f));
}

// Of five scales the one whose codes promise the least squared error, or rather their least squares' scale.
//
// x (32,); inverse (5,): of the scales
HWY_INLINE VF32 MostPromising(const float* x, const VF32 (&inverse)[5]) {
  const F32 d;
  VF32 products[5];
  VF32 squares[5];
  Unroll<5>([&](auto i) GEMMULE_LAMBDA { products[i] = squares[i] = hn::Zero(d); });
  for (std::size_t j = 0; j < kGroup; ++j) {
    const VF32 element = hn::Set(d, x[j]);
    Unroll<5>([&](auto i) GEMMULE_LAMBDA {
      const VF32 code = Q4_0Code(element, inverse[i]);
      products[i] = hn::MulAdd(code, element, products[i]);
      squares[i] = hn::MulAdd(code, code, squares[i]);
    });
  }
  VF32 best = hn::Zero(d);
  VF32 most = hn::Zero(d);  // by how much the squared error is less than that of a zero block
  Unroll<5>([&](auto i) GEMMULE_LAMBDA {
    const VF32 scale = hn::Div(products[i], squares[i]);
    const VF32 gain = hn::Mul(products[i], scale);
    const auto is_better = hn::Gt(gain, most);
    best = hn::IfThenElse(is_better, scale, best);
    most = hn::IfThenElse(is_better, gain, most);
  });
  return best;
}

// Minimises the squared error over scales of both signs and codes.
//
// Between two scales at which some element changes its code, the least squares' scale of the codes is best, and it can
// be told what its error is without decoding. So every virtual lane looks at five scales and keeps the one that
// promises most; then the lanes compare the errors of these, as float16 and with new codes. The first lane has
// llama.cpp's scale instead, so that its rule is never better.
//
// x (32,), largest: its largest element in magnitude, above 2^-25.
HWY_INLINE float LeastSquaresScale(const float* x, float largest) {
  const F32 d;
  HWY_ALIGN float scales[kVirtualLanes];
  VF32 errors[kRegs];
  Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
    // Together the lanes try 4 to 10 steps with the largest element on the side of code -8, and 7 to 9 steps with it on
    // the other. Fewer are never better than twice as many, and more would cut off too much.
    const VF32 lane = hn::Iota(d, static_cast<float>(r * kLanes));
    const VF32 per_step = hn::Set(d, 1.0f / largest);
    VF32 inverse[5];
    Unroll<4>([&](auto i) GEMMULE_LAMBDA {
      const VF32 first = hn::Set(d, -4.0f - 0.09375f * static_cast<float>(i));
      inverse[i] = hn::Mul(hn::NegMulAdd(lane, hn::Set(d, 0.375f), first), per_step);
    });
    inverse[4] = hn::Mul(hn::MulAdd(lane, hn::Set(d, 0.125f), hn::Set(d, 7.0f)), per_step);
    VF32 scale = MostPromising(x, inverse);
    if (r == 0) scale = hn::IfThenElse(hn::FirstN(d, 1), hn::Set(d, largest / -8.0f), scale);
    scale = NearestScale(scale);

    const VF32 inverse_scale = hn::Div(hn::Set(d, 1.0f), scale);
    errors[r] = hn::Zero(d);
    for (std::size_t j = 0; j < kGroup; ++j) {
      const VF32 element = hn::Set(d, x[j]);
      const VF32 distance = hn::NegMulAdd(Q4_0Code(element, inverse_scale), scale, element);
      errors[r] = hn::MulAdd(distance, distance, errors[r]);
    }
    hn::Store(scale, d, scales + r * kLanes);
  });
  return scales[LeastLane(errors)];
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_Q4_0_LEAST_SQUARES_INL_H_
