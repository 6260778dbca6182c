#include "kernels/rms_norm.h"

#include <cmath>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// `weight` may be null.
void RmsNorm(const float* x, const float* weight, float eps, float* y, std::size_t n) {
  const float sum = SumOver(n, [=](std::size_t i, std::size_t count, VF32 s) GEMMULE_LAMBDA {
    const VF32 a = LoadCount(x + i, count);
    return hn::MulAdd(a, a, s);
  });
  const VF32 factor = hn::Set(F32(), 1.0f / std::sqrt(sum / static_cast<float>(n) + eps));
  MapOver(n, y, [=](std::size_t i, std::size_t count) GEMMULE_LAMBDA {
    const VF32 scaled = hn::Mul(LoadCount(x + i, count), factor);
    return weight == nullptr ? scaled : hn::Mul(scaled, LoadCount(weight + i, count));
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(RmsNorm);

void RmsNorm(std::span<const float> x, std::span<const float> weight, float eps, std::span<float> y) noexcept {
  HWY_DASSERT(!x.empty() && x.size() == y.size() && (weight.empty() || weight.size() == x.size()));
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x.data(), weight.empty() ? nullptr : weight.data(), eps, y.data(), x.size());
}

}  // namespace gemmule
#endif  // HWY_ONCE
