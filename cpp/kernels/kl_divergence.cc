#include "kernels/kl_divergence.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kl_divergence.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// (e^d - 1 - d) / d^2 for |d| <= 1, relative error at most 2^-22: the series 1/2! + d/3! + ... + d^8/10!, whose
// remainder is d^9/11! + ... < 3e-8.
HWY_INLINE VF32 ExpBeyondLine(VF32 d) {
  const F32 f;
  VF32 p = hn::Set(f, 1.0f / 3628800);
  p = hn::MulAdd(p, d, hn::Set(f, 1.0f / 362880));
  p = hn::MulAdd(p, d, hn::Set(f, 1.0f / 40320));
  p = hn::MulAdd(p, d, hn::Set(f, 1.0f / 5040));
  p = hn::MulAdd(p, d, hn::Set(f, 1.0f / 720));
  p = hn::MulAdd(p, d, hn::Set(f, 1.0f / 120));
  p = hn::MulAdd(p, d, hn::Set(f, 1.0f / 24));
  p = hn::MulAdd(p, d, hn::Set(f, 1.0f / 6));
  return hn::MulAdd(p, d, hn::Set(f, 0.5f));
}

// With d = ln q - ln p, the sum of p (-d) is that of p (e^d - 1 - d), since p and q = p e^d both sum up to 1. No term
// of it is negative, so nothing cancels; and its derivative by an error common to all d is 0: an error e of the two
// LogSumExp counts as e^2 / 2 only.
//
// Here p is e^(a - base), which the caller scales, and d = b - a - shift.
double SumOfTerms(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, float base, float shift, std::size_t n) {
  constexpr std::size_t kBlock = 256;  // elements summed in float, 16 a lane; blocks are added in double
  const F32 f;
  const VF32 vbase = hn::Set(f, base);
  const VF32 vshift = hn::Set(f, shift);
  double total = 0.0;
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t block = HWY_MIN(kBlock, n - begin);
    total += SumOver(block, [=](std::size_t i, std::size_t count, VF32 sum) GEMMULE_LAMBDA {
      const VF32 va = LoadCount(a + begin + i, count);
      const VF32 d = hn::Sub(hn::Sub(LoadCount(b + begin + i, count), va), vshift);
      const VF32 log_p = hn::Sub(va, vbase);
      const VF32 p = Exp(log_p);
      const VF32 near = hn::Mul(p, hn::Mul(hn::Mul(d, d), ExpBeyondLine(d)));
      const VF32 far = hn::NegMulAdd(p, d, hn::Sub(Exp(hn::Add(log_p, d)), p));
      const VF32 term = hn::IfThenElse(hn::Le(hn::Abs(d), hn::Set(f, 1.0f)), near, far);
      return hn::Add(sum, count == kLanes ? term : hn::IfThenElseZero(hn::FirstN(f, count), term));
    });
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(SumOfTerms);

double KlDivergence(std::span<const float> reference, double reference_lse, std::span<const float> logits,
                    double logits_lse) noexcept {
  HWY_DASSERT(!reference.empty() && reference.size() == logits.size());
  const float base = static_cast<float>(reference_lse);
  const float shift = static_cast<float>(logits_lse - reference_lse);
  return HWY_DYNAMIC_DISPATCH(SumOfTerms)(reference.data(), logits.data(), base, shift, reference.size()) *
         std::exp(static_cast<double>(base) - reference_lse);
}

}  // namespace gemmule
#endif  // HWY_ONCE
