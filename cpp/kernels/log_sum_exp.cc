#include "kernels/log_sum_exp.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/log_sum_exp.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"
#include "kernels/largest.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Sum of e^(x - max), n a few thousand at most: float lanes lose nothing that matters.
float SumExp(const float* x, float max, std::size_t n) {
  const VF32 vmax = hn::Set(F32(), max);
  return SumOver(n, [=](std::size_t i, std::size_t count, VF32 s) GEMMULE_LAMBDA {
    const VF32 e = Exp(hn::Sub(LoadCount(x + i, count), vmax));
    return hn::Add(s, count == kLanes ? e : hn::IfThenElseZero(hn::FirstN(F32(), count), e));
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(SumExp);

double LogSumExp(std::span<const float> x) noexcept {
  HWY_DASSERT(!x.empty());
  constexpr std::size_t kBlock = 4096;  // elements summed in float; blocks are added in double
  const float max = Largest(x);
  if (std::isinf(max)) return max;
  double sum = 0.0;
  for (std::size_t i = 0; i < x.size(); i += kBlock) {
    sum += HWY_DYNAMIC_DISPATCH(SumExp)(x.data() + i, max, std::min(kBlock, x.size() - i));
  }
  return static_cast<double>(max) + std::log(sum);
}

}  // namespace gemmule
#endif  // HWY_ONCE
