#include "kernels/int8_groups.h"

#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/int8_groups.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"
#include "kernels/steps.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

using GI32 = hn::RebindToSigned<F32>;
constexpr std::size_t kRegsOfGroup = kGroup / kLanes;

// Registers of a group in step order: evens first, then odds, where a row's bytes hold neighbours.
HWY_INLINE void LoadGroup(bool paired, const float* x, VF32 (&v)[kRegsOfGroup]) {
  const F32 d;
  constexpr std::size_t kHalf = kRegsOfGroup / 2;
  Unroll<kHalf>([&](auto r) GEMMULE_LAMBDA {
    if (paired) {
      hn::LoadInterleaved2(d, x + 2 * r * kLanes, v[r], v[kHalf + r]);
    } else {
      v[r] = hn::LoadU(d, x + r * kLanes);
      v[kHalf + r] = hn::LoadU(d, x + (kHalf + r) * kLanes);
    }
  });
}

void QuantizeGroups(bool paired, const float* x, std::size_t groups, std::int8_t* HWY_RESTRICT codes,
                    float* HWY_RESTRICT scales, float* HWY_RESTRICT sums8) {
  const F32 d;
  const GI32 di;
  const hn::Rebind<std::int8_t, F32> d8;
  for (std::size_t g = 0; g < groups; ++g, x += kGroup, codes += kGroup) {
    VF32 v[kRegsOfGroup];
    LoadGroup(paired, x, v);
    // As integers, magnitudes keep their order, and NaN comes last.
    auto max = hn::Zero(di);
    Unroll<kRegsOfGroup>([&](auto r) GEMMULE_LAMBDA { max = hn::Max(max, hn::BitCast(di, hn::Abs(v[r]))); });
    const float scale = hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, max))) / 127.0f;
    scales[g] = scale;
    sums8[g] = 0.0f;
    if (!(scale > 0.0f) || !std::isfinite(scale)) {
      std::memset(codes, 0, kGroup);
      continue;
    }
    const VF32 divisor = hn::Set(d, scale);
    const VF32 end = hn::Set(d, 127.0f);  // a scale that is subnormal may be too small
    auto sum = hn::Zero(di);
    Unroll<kRegsOfGroup>([&](auto r) GEMMULE_LAMBDA {
      const auto code = hn::ConvertTo(di, hn::Clamp(hn::Round(hn::Div(v[r], divisor)), hn::Neg(end), end));
      sum = hn::Add(sum, code);
      hn::StoreU(hn::DemoteTo(d8, code), d8, codes + r * kLanes);
    });
    sums8[g] = scale * (static_cast<float>(hn::ReduceSum(di, sum)) / 8);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(QuantizeGroups);

void QuantizeGroups(Encoding encoding, std::span<const float> x, std::int8_t* codes, float* scales,
                    float* sums8) noexcept {
  HWY_DASSERT(x.size() % kGroup == 0);
  HWY_DYNAMIC_DISPATCH(QuantizeGroups)(Planes(encoding) == 2, x.data(), x.size() / kGroup, codes, scales, sums8);
}

}  // namespace gemmule
#endif  // HWY_ONCE
