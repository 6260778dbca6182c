#include "kernels/encode_q4_0.h"

#include <cmath>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/encode_q4_0.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/encode-inl.h"
#include "kernels/lanes-inl.h"
#include "kernels/q4_0_grid-inl.h"
#include "kernels/q4_0_least_squares-inl.h"
#include "quant/q4_0.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

struct BlockScale {
  std::uint16_t bits;  // float16
  float inverse;       // what the elements are multiplied by
};

// Of the elements that are largest in magnitude the first. As integers, magnitudes keep their order, and NaN comes
// last.
HWY_INLINE float LargestOfGroup(const GroupVectors& v, const float* x) {
  const I32 di;
  auto largest = hn::Zero(di);
  Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA { largest = hn::Max(largest, hn::BitCast(di, hn::Abs(v[r]))); });
  largest = hn::MaxOfLanes(di, largest);
  std::uint64_t where = 0;  // bit j: element j is as large
  Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA {
    where |= hn::BitsFromMask(di, hn::Eq(hn::BitCast(di, hn::Abs(v[r])), largest)) << (r * kLanes);
  });
  return x[hwy::Num0BitsBelowLS1Bit_Nonzero64(where)];
}

// llama.cpp's rule: the inverse is that of the scale before it is rounded to float16.
HWY_INLINE BlockScale LlamaScale(float largest) {
  const float scale = largest == 0.0f ? -0.0f : largest / -8.0f;
  return {HalfBits(scale), scale == 0.0f ? 0.0f : 1.0f / scale};
}

// Grid::kRecover. No element of 2^-25 or less gets a code but 0, by whatever scale.
HWY_INLINE BlockScale RecoveredScale(const SourceType& source, const GroupVectors& v, const float* x) {
  const float largest = LargestOfGroup(v, x);
  const GridFit fit(source, v);
  if (!(std::abs(largest) > 0x1p-25f)) return {HalfBits(fit.zeros_are_negative() ? -0.0f : 0.0f), 0.0f};
  float scale = fit.Scale(std::abs(largest));
  if (scale == 0.0f) scale = LeastSquaresScale(x, largest);
  return {HalfBits(scale), 1.0f / scale};
}

// code + 8 = min(floor(x * inverse + 8.5), 15), at least 0: half a step is rounded up, the multiplication by itself.
HWY_INLINE void EncodeBlock(const BlockScale& scale, const SourceType& source, const GroupVectors& v,
                            Block<Encoding::kQ4_0>& block, Tally& tally) {
  const F32 d;
  const VF32 step = hn::Set(d, FloatFromF16(scale.bits));
  bool on_grid = true;
  hn::Vec<I32> codes[kGroupVectors];
  Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA {
    const VF32 unclamped = hn::Floor(hn::Add(hn::Mul(v[r], hn::Set(d, scale.inverse)), hn::Set(d, 8.5f)));
    const VF32 code = hn::Min(hn::Max(unclamped, hn::Zero(d)), hn::Set(d, 15.0f));
    const VF32 decoded = hn::Mul(hn::Sub(code, hn::Set(d, 8.0f)), step);
    on_grid &= hn::AllTrue(d, hn::Eq(source.Round(decoded), v[r]));
    tally.Add(r, v[r], decoded);
    tally.AddSaturated(r, hn::Ne(code, unclamped));
    codes[r] = hn::ConvertTo(I32(), code);
  });
  if (on_grid) tally.AddOnGrid(kGroup);
  block.scale = std::bit_cast<StoredF16>(scale.bits);
  Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
    const auto both = hn::Or(codes[r], hn::ShiftLeft<4>(codes[kRegs + r]));
    hn::StoreU(hn::DemoteTo(U8(), both), U8(), block.codes + r * kLanes);
  });
}

template <class FindScale>
HWY_INLINE void EncodeBlocks(Encoding encoding, const float* x, std::size_t n, std::byte* out, EncodeCounts& counts,
                             const FindScale& find_scale) {
  const SourceType source(encoding);
  auto* block = reinterpret_cast<Block<Encoding::kQ4_0>*>(out);
  Tally tally;
  for (std::size_t i = 0; i < n; i += kGroup, ++block) {
    GroupVectors v;
    LoadGroup(x + i, v);
    EncodeBlock(find_scale(source, v, x + i), source, v, *block, tally);
  }
  tally.AddTo(counts, n);
}

void EncodeQ4_0(Grid grid, Encoding source, const float* x, std::size_t n, std::byte* out, EncodeCounts& counts) {
  if (grid == Grid::kLlama) {
    EncodeBlocks(source, x, n, out, counts,
                 [](const SourceType&, const GroupVectors& v, const float* block)
                     GEMMULE_LAMBDA { return LlamaScale(LargestOfGroup(v, block)); });
  } else {
    EncodeBlocks(source, x, n, out, counts,
                 [](const SourceType& type, const GroupVectors& v, const float* block)
                     GEMMULE_LAMBDA { return RecoveredScale(type, v, block); });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(EncodeQ4_0);

void EncodeQ4_0(Grid grid, Encoding source, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept {
  HWY_DASSERT(x.size() % kGroup == 0);
  HWY_DYNAMIC_DISPATCH(EncodeQ4_0)(grid, source, x.data(), x.size(), out, counts);
}

}  // namespace gemmule
#endif  // HWY_ONCE
