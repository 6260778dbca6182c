#include "kernels/sum_of_squares.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sum_of_squares.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/encode-inl.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

double SumOfSquares(const float* x, std::size_t n) {
  Squares squares;
  for (std::size_t i = 0; i < n; i += kVirtualLanes) {
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
      const std::size_t at = i + r * kLanes;
      if (at < n) squares.Add(r, LoadCount(x + at, HWY_MIN(kLanes, n - at)));
    });
  }
  return squares.Sum();
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(SumOfSquares);

double SumOfSquares(std::span<const float> x) noexcept {
  return HWY_DYNAMIC_DISPATCH(SumOfSquares)(x.data(), x.size());
}

}  // namespace gemmule
#endif  // HWY_ONCE
