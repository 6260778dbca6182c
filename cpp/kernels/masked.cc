#include "kernels/masked.h"

#include <cstddef>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/masked.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

void Masked(const float* x, const std::uint8_t* bits, std::size_t n, float* out) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  std::size_t i = 0;
  for (; i + kVirtualLanes <= n; i += kVirtualLanes) {
    const std::uint64_t sixteen = bits[i / 8] | bits[i / 8 + 1] << 8;
    for (std::size_t r = 0; r < kRegs; ++r) {
      const std::uint64_t part = sixteen >> (r * kLanes);
      const auto kept = hn::LoadMaskBits(F32(), reinterpret_cast<const std::uint8_t*>(&part));
      const std::size_t at = i + r * kLanes;
      hn::StoreU(hn::IfThenElse(kept, hn::LoadU(F32(), x + at), hn::Set(F32(), kLowest)), F32(), out + at);
    }
  }
  for (; i < n; ++i) out[i] = bits[i / 8] >> (i % 8) & 1 ? x[i] : kLowest;
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(Masked);

void Masked(std::span<const float> x, std::span<const std::uint8_t> bits, std::span<float> out) noexcept {
  HWY_DASSERT(out.size() == x.size() && bits.size() == (x.size() + 7) / 8);
  HWY_DYNAMIC_DISPATCH(Masked)(x.data(), bits.data(), x.size(), out.data());
}

}  // namespace gemmule
#endif  // HWY_ONCE
