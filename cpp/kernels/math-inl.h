// exp by one polynomial with one order of operations, so that every target gives the same bits.

#if defined(GEMMULE_KERNELS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_MATH_INL_H_
#undef GEMMULE_KERNELS_MATH_INL_H_
#else
#define GEMMULE_KERNELS_MATH_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// e^x. Relative error at most 2^-22 for x in [-87.3, 88.3]; below: 0; above: e^88.3; NaN stays NaN.
//
// x = k ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor series to r^7 / 7!, whose remainder is r^8 / 8! < 6e-9.
// ln 2 is split so that k * kLn2High is exact for |k| < 2^9.
HWY_INLINE VF32 Exp(VF32 x) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const VF32 kLowest = hn::Set(d, -87.3f);
  const VF32 kHighest = hn::Set(d, 88.3f);
  const VF32 kLog2E = hn::Set(d, 1.442695041f);
  const VF32 kLn2High = hn::Set(d, 0.693359375f);  // 355 / 512
  const VF32 kLn2Low = hn::Set(d, -2.12194440e-4f);

  const auto is_nan = hn::IsNaN(x);
  const auto too_low = hn::Lt(x, kLowest);
  const VF32 clamped = hn::Min(hn::Max(x, kLowest), kHighest);
  const VF32 k = hn::Round(hn::Mul(clamped, kLog2E));
  const VF32 r = hn::NegMulAdd(k, kLn2Low, hn::NegMulAdd(k, kLn2High, clamped));

  VF32 p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));

  // 2^k by its exponent bits; k is in [-126, 127].
  const auto power = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, k), hn::Set(di, 127))));
  const VF32 y = hn::IfThenZeroElse(too_low, hn::Mul(p, power));
  return hn::IfThenElse(is_nan, x, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_MATH_INL_H_
