#include "kernels/encode_q8_0.h"

#include <bit>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/encode_q8_0.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/encode-inl.h"
#include "kernels/lanes-inl.h"
#include "quant/q8_0.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// To the nearest integer, halves away from zero.
HWY_INLINE VF32 RoundAway(VF32 x) {
  const F32 d;
  const VF32 whole = hn::Trunc(x);
  const auto is_half = hn::Ge(hn::Abs(hn::Sub(x, whole)), hn::Set(d, 0.5f));  // the difference is exact
  return hn::Add(whole, hn::IfThenElseZero(is_half, hn::CopySign(hn::Set(d, 1.0f), x)));
}

void EncodeQ8_0(Encoding encoding, const float* x, std::size_t n, std::byte* out, EncodeCounts& counts) {
  const F32 d;
  const hn::Rebind<std::int8_t, F32> d8;
  const SourceType source(encoding);
  auto* block = reinterpret_cast<Block<Encoding::kQ8_0>*>(out);
  Tally tally;
  for (std::size_t i = 0; i < n; i += kGroup, ++block) {
    GroupVectors v;
    LoadGroup(x + i, v);
    VF32 largest = hn::Zero(d);
    Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA { largest = hn::Max(largest, hn::Abs(v[r])); });
    const float scale = hn::ReduceMax(d, largest) / 127.0f;
    const VF32 inverse = hn::Set(d, scale == 0.0f ? 0.0f : 1.0f / scale);
    const std::uint16_t bits = HalfBits(scale);
    const VF32 step = hn::Set(d, FloatFromF16(bits));
    block->scale = std::bit_cast<StoredF16>(bits);
    bool on_grid = true;
    Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA {
      const VF32 code = RoundAway(hn::Mul(v[r], inverse));
      const VF32 decoded = hn::Mul(code, step);
      on_grid &= hn::AllTrue(d, hn::Eq(source.Round(decoded), v[r]));
      tally.Add(r, v[r], decoded);
      hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(I32(), code)), d8, block->codes + r * kLanes);
    });
    if (on_grid) tally.AddOnGrid(kGroup);
  }
  tally.AddTo(counts, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(EncodeQ8_0);

void EncodeQ8_0(Encoding source, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept {
  HWY_DASSERT(x.size() % kGroup == 0);
  HWY_DYNAMIC_DISPATCH(EncodeQ8_0)(source, x.data(), x.size(), out, counts);
}

}  // namespace gemmule
#endif  // HWY_ONCE
