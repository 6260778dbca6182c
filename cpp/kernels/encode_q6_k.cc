#include "kernels/encode_q6_k.h"

#include <bit>
#include <cstdint>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/encode_q6_k.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/encode-inl.h"
#include "kernels/lanes-inl.h"
#include "quant/q6_k.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

using Q6K = Block<Encoding::kQ6_K>;
constexpr std::size_t kBlock = BlockElements(Encoding::kQ6_K);
constexpr std::size_t kPart = 16;  // elements with a scale of their own
constexpr std::size_t kParts = kBlock / kPart;
static_assert(kPart == kVirtualLanes);

HWY_INLINE VF32 CodeOf(VF32 x, VF32 inverse_step) {
  const F32 d;
  return hn::Min(hn::Max(hn::Round(hn::Mul(x, inverse_step)), hn::Set(d, -32.0f)), hn::Set(d, 31.0f));
}

struct PartRange {
  float least;
  float most;

  float Magnitude() const { return HWY_MAX(-least, most); }
};

HWY_INLINE PartRange RangeOfPart(const float* x) {
  const F32 d;
  VF32 least = hn::LoadU(d, x);
  VF32 most = least;
  Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
    const VF32 v = hn::LoadU(d, x + r * kLanes);
    least = hn::Min(least, v);
    most = hn::Max(most, v);
  });
  return {hn::ReduceMin(d, least), hn::ReduceMax(d, most)};
}

struct PartScale {
  float scale;  // a whole number, -127 ... 127
  float squared_error;
};

// The best of the 32 scales that begin with the one for which the element that is largest in magnitude has code -32.
HWY_INLINE PartScale BestScale(const float* x, const PartRange& range, float block_scale) {
  const F32 d;
  const float magnitude = range.Magnitude();
  if (!(magnitude > 0.0f)) return {0.0f, 0.0f};
  const float sign = range.most > -range.least ? -1.0f : 1.0f;
  // 0.6 of a step may be cut off.
  const VF32 first = hn::Ceil(hn::Set(d, magnitude / (32.6f * block_scale)));
  HWY_ALIGN float scales[kVirtualLanes];
  HWY_ALIGN float errors[kVirtualLanes];
  VF32 least_error[kRegs];
  Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
    VF32 scale[2];
    VF32 step[2];
    VF32 inverse[2];
    VF32 error[2];
    Unroll<2>([&](auto i) GEMMULE_LAMBDA {
      const VF32 lane = hn::Iota(d, static_cast<float>(i * kVirtualLanes + r * kLanes));
      scale[i] = hn::Mul(hn::Min(hn::Add(first, lane), hn::Set(d, 127.0f)), hn::Set(d, sign));
      step[i] = hn::Mul(scale[i], hn::Set(d, block_scale));
      inverse[i] = hn::Div(hn::Set(d, 1.0f), step[i]);
      error[i] = hn::Zero(d);
    });
    for (std::size_t j = 0; j < kPart; ++j) {
      const VF32 element = hn::Set(d, x[j]);
      Unroll<2>([&](auto i) GEMMULE_LAMBDA {
        const VF32 distance = hn::NegMulAdd(CodeOf(element, inverse[i]), step[i], element);
        error[i] = hn::MulAdd(distance, distance, error[i]);
      });
    }
    const auto is_better = hn::Lt(error[1], error[0]);
    least_error[r] = hn::IfThenElse(is_better, error[1], error[0]);
    hn::Store(hn::IfThenElse(is_better, scale[1], scale[0]), d, scales + r * kLanes);
    hn::Store(least_error[r], d, errors + r * kLanes);
  });
  const std::size_t lane = LeastLane(least_error);
  return {scales[lane], errors[lane]};
}

struct BlockScales {
  float block = 0.0f;        // a float16
  float parts[kParts] = {};  // whole numbers
};

// A block's scale makes the scale of the part with the largest element about 124, 116, 108 or 100, which leaves room
// for greater ones.
HWY_INLINE BlockScales FindScales(const float* x) {
  PartRange ranges[kParts];
  float magnitude = 0.0f;
  for (std::size_t p = 0; p < kParts; ++p) {
    ranges[p] = RangeOfPart(x + p * kPart);
    magnitude = HWY_MAX(magnitude, ranges[p].Magnitude());
  }
  BlockScales best;
  float least_error = std::numeric_limits<float>::infinity();
  for (const float largest : {124.0f, 116.0f, 108.0f, 100.0f}) {
    BlockScales scales;
    scales.block = HWY_MIN(HalfNotBelow(magnitude / (32.0f * largest)), 65504.0f);
    float error = 0.0f;
    for (std::size_t p = 0; p < kParts; ++p) {
      const PartScale part = BestScale(x + p * kPart, ranges[p], scales.block);
      scales.parts[p] = part.scale;
      error += part.squared_error;
    }
    if (error < least_error) {
      least_error = error;
      best = scales;
    }
  }
  return best;
}

HWY_INLINE void EncodeBlock(const float* x, const BlockScales& scales, const SourceType& source, Q6K& block,
                            Tally& tally) {
  const F32 d;
  const hn::Rebind<std::int8_t, F32> d8;
  std::int8_t codes[kBlock];
  bool on_grid = true;
  for (std::size_t p = 0; p < kParts; ++p) {
    const float step = scales.block * scales.parts[p];
    const VF32 inverse = hn::Set(d, step == 0.0f ? 0.0f : 1.0f / step);
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
      const std::size_t at = p * kPart + r * kLanes;
      const VF32 v = hn::LoadU(d, x + at);
      const VF32 code = CodeOf(v, inverse);
      const VF32 decoded = hn::Mul(code, hn::Set(d, step));
      on_grid &= hn::AllTrue(d, hn::Eq(source.Round(decoded), v));
      tally.Add(r, v, decoded);
      tally.AddSaturated(r, hn::Ne(code, hn::Round(hn::Mul(v, inverse))));
      hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(I32(), code)), d8, codes + at);
    });
    block.scales[p] = static_cast<std::int8_t>(scales.parts[p]);
  }
  block.SetCodes(codes);
  block.scale = std::bit_cast<StoredF16>(HalfBits(scales.block));
  if (on_grid) tally.AddOnGrid(kBlock);
}

void EncodeQ6_K(Encoding encoding, const float* x, std::size_t n, std::byte* out, EncodeCounts& counts) {
  const SourceType source(encoding);
  auto* block = reinterpret_cast<Q6K*>(out);
  Tally tally;
  for (std::size_t i = 0; i < n; i += kBlock, ++block) {
    EncodeBlock(x + i, FindScales(x + i), source, *block, tally);
  }
  tally.AddTo(counts, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(EncodeQ6_K);

void EncodeQ6_K(Encoding source, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept {
  HWY_DASSERT(x.size() % BlockElements(Encoding::kQ6_K) == 0);
  HWY_DYNAMIC_DISPATCH(EncodeQ6_K)(source, x.data(), x.size(), out, counts);
}

}  // namespace gemmule
#endif  // HWY_ONCE
