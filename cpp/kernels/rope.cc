#include "kernels/rope.h"

#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

void Rope(const float* cos, const float* sin, float* x, std::size_t half) {
  const F32 d;
  for (std::size_t i = 0; i < half; i += kLanes) {
    const std::size_t count = HWY_MIN(kLanes, half - i);
    const VF32 c = LoadCount(cos + i, count);
    const VF32 s = LoadCount(sin + i, count);
    const VF32 a = LoadCount(x + i, count);
    const VF32 b = LoadCount(x + half + i, count);
    hn::StoreN(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + i, count);
    hn::StoreN(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + half + i, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(Rope);

void Rope(std::span<const float> cos, std::span<const float> sin, std::span<float> x) noexcept {
  HWY_DASSERT(cos.size() == sin.size() && x.size() == 2 * cos.size());
  HWY_DYNAMIC_DISPATCH(Rope)(cos.data(), sin.data(), x.data(), cos.size());
}

}  // namespace gemmule
#endif  // HWY_ONCE
