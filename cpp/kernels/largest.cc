#include "kernels/largest.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/largest.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

float Largest(const float* x, std::size_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  VF32 largest[kRegs];
  for (auto& l : largest) l = hn::Set(F32(), kLowest);
  std::size_t i = 0;
  for (; i + kVirtualLanes <= n; i += kVirtualLanes) {
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
      const VF32 v = hn::LoadU(F32(), x + i + r * kLanes);
      largest[r] = hn::IfThenElse(hn::Gt(v, largest[r]), v, largest[r]);
    });
  }
  HWY_ALIGN float lanes[kVirtualLanes];
  for (std::size_t r = 0; r < kRegs; ++r) hn::Store(largest[r], F32(), lanes + r * kLanes);
  float result = *std::max_element(lanes, lanes + kVirtualLanes);
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

void LargestOfBlocks(const float* x, std::size_t n, std::size_t block, float* out) {
  for (std::size_t i = 0; i * block < n; ++i) out[i] = Largest(x + i * block, HWY_MIN(block, n - i * block));
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(Largest);
HWY_EXPORT(LargestOfBlocks);

float Largest(std::span<const float> x) noexcept { return HWY_DYNAMIC_DISPATCH(Largest)(x.data(), x.size()); }

void LargestOfBlocks(std::span<const float> x, std::size_t block, std::span<float> out) noexcept {
  HWY_DASSERT(out.size() == (x.size() + block - 1) / block);
  HWY_DYNAMIC_DISPATCH(LargestOfBlocks)(x.data(), x.size(), block, out.data());
}

}  // namespace gemmule
#endif  // HWY_ONCE
