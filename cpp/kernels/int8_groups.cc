#include "kernels/int8_groups.h"

#include <algorithm>
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

void QuantizeGroups(Encoding encoding, const float* x, std::size_t t, const Int8Groups& to) {
  const F32 d;
  const GI32 di;
  const hn::Rebind<std::int8_t, F32> d8;
  const bool paired = Planes(encoding) == 2;
  const std::size_t parts = ScalesPerGroup(encoding);
  const std::int32_t factor = CodeOffset(encoding) == 0 ? 1 : -CodeOffset(encoding);
  for (std::size_t g = 0; g < to.groups(); ++g, x += kGroup) {
    const std::size_t at = to.At(t, g);
    std::int8_t* HWY_RESTRICT codes = to.codes + at * kGroup;
    std::int32_t* HWY_RESTRICT sums = to.sums + at * parts;
    VF32 v[kRegsOfGroup];
    LoadGroup(paired, x, v);
    // As integers, magnitudes keep their order, and NaN comes last.
    auto max = hn::Zero(di);
    Unroll<kRegsOfGroup>([&](auto r) GEMMULE_LAMBDA { max = hn::Max(max, hn::BitCast(di, hn::Abs(v[r]))); });
    const float scale = hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, max))) / 127.0f;
    to.scales[at] = scale;
    if (!(scale > 0.0f) || !std::isfinite(scale)) {
      std::memset(codes, 0, kGroup);
      std::fill_n(sums, parts, 0);
      continue;
    }
    const VF32 divisor = hn::Set(d, scale);
    const VF32 end = hn::Set(d, 127.0f);  // a scale that is subnormal may be too small
    hn::Vec<GI32> sum[2] = {hn::Zero(di), hn::Zero(di)};
    Unroll<kRegsOfGroup>([&](auto r) GEMMULE_LAMBDA {
      const auto code = hn::ConvertTo(di, hn::Clamp(hn::Round(hn::Div(v[r], divisor)), hn::Neg(end), end));
      auto& s = sum[r / (kRegsOfGroup / 2)];
      s = hn::Add(s, code);
      hn::StoreU(hn::DemoteTo(d8, code), d8, codes + r * kLanes);
    });
    if (parts == 1) sum[0] = hn::Add(sum[0], sum[1]);
    for (std::size_t i = 0; i < parts; ++i) sums[i] = factor * hn::ReduceSum(di, sum[i]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(QuantizeGroups);

void QuantizeGroups(Encoding encoding, std::span<const float> x, std::size_t t, const Int8Groups& to) noexcept {
  HWY_DASSERT(x.size() == to.k && to.k % kGroup == 0 && t < to.tokens);
  HWY_DYNAMIC_DISPATCH(QuantizeGroups)(encoding, x.data(), t, to);
}

}  // namespace gemmule
#endif  // HWY_ONCE
