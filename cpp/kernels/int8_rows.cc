#include "kernels/int8_rows.h"

#include <cmath>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/int8_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

using DI32 = hn::RebindToSigned<F32>;
using VDI32 = hn::Vec<DI32>;
using DI8 = hn::Rebind<std::int8_t, F32>;

HWY_INLINE VDI32 RoundedCodes(VF32 x, VF32 scale, VF32 min, VF32 max) {
  return hn::ConvertTo(DI32(), hn::Min(hn::Max(hn::Round(hn::Div(x, scale)), min), max));
}

// Calls body(b, plane, x) for all planes of all items b that `to` has room for: x holds elements b * planes + plane of
// the k there are, then zeros.
template <class Body>
HWY_INLINE void ForPlanes(const Int8Rows& to, const float* x, std::size_t k, const Body& body) {
  const F32 d;
  const std::size_t planes = to.planes;
  const std::size_t items = k / planes;
  HWY_ALIGN float last[4 * kLanes];
  for (std::size_t b = 0; b < to.plane_codes; b += kLanes) {
    const float* from = x + b * planes;
    if (b + kLanes > items) {  // the interleaved loads below read whole vectors
      std::memset(last, 0, sizeof last);
      if (b < items) std::memcpy(last, from, (items - b) * planes * sizeof(float));
      from = last;
    }
    VF32 v[4];
    if (planes == 1) {
      v[0] = hn::LoadU(d, from);
    } else if (planes == 2) {
      hn::LoadInterleaved2(d, from, v[0], v[1]);
    } else {
      hn::LoadInterleaved4(d, from, v[0], v[1], v[2], v[3]);
    }
    for (std::size_t plane = 0; plane < planes; ++plane) body(b, plane, v[plane]);
  }
}

// Codes b ... of a plane to their places in `row`, a row of `to`.
HWY_INLINE void StoreCodes(const Int8Rows& to, std::size_t b, std::size_t plane, VDI32 codes, std::int8_t* row) {
  constexpr std::size_t kWord = Int8Rows::kWord;
  static_assert(kLanes % kWord == 0);
  const std::size_t step = to.word_step();
  std::int8_t* at = row + plane * to.plane_step() + b / kWord * step;
  const auto bytes = hn::DemoteTo(DI8(), codes);
  if (step == kWord) return hn::StoreU(bytes, DI8(), at);
  HWY_ALIGN std::int8_t words[kLanes];
  hn::Store(bytes, DI8(), words);
  for (std::size_t i = 0; i < kLanes / kWord; ++i) std::memcpy(at + i * step, words + i * kWord, kWord);
}

void QuantizeStatic(const Int8Rows& to, std::size_t t, const float* x, std::size_t k, float scale) {
  const F32 d;
  const DI32 di;
  const VF32 vscale = hn::Set(d, scale);
  const VF32 min = hn::Set(d, -128.0f);
  const VF32 max = hn::Set(d, 127.0f);
  std::int8_t* row = to.Row(t);
  VDI32 sum = hn::Zero(di);
  VDI32 nan = hn::Zero(di);  // in a lane that has met one
  ForPlanes(to, x, k, [&](std::size_t b, std::size_t plane, VF32 v) GEMMULE_LAMBDA {
    const VDI32 codes = RoundedCodes(v, vscale, min, max);
    nan = hn::Or(nan, hn::BitCast(di, hn::VecFromMask(d, hn::IsNaN(v))));
    sum = hn::Add(sum, codes);
    StoreCodes(to, b, plane, codes, row);
  });
  to.sums[t] = hn::ReduceSum(di, sum);
  // No code stands for NaN: the scale spreads it.
  to.scales[t] = hn::AllFalse(di, hn::Ne(nan, hn::Zero(di))) ? scale : std::numeric_limits<float>::quiet_NaN();
}

float LargestMagnitude(const float* x, std::size_t k) { return MaxAbs(x, k); }

void QuantizeTwoDigits(const Int8Rows& to, std::size_t t, const float* x, std::size_t k, float scale) {
  const F32 d;
  const DI32 di;
  const VF32 vscale = hn::Set(d, scale);
  const VF32 min = hn::Set(d, -32639.0f);
  const VF32 max = hn::Set(d, 32639.0f);
  std::int8_t* high = to.Row(2 * t);
  std::int8_t* low = to.Row(2 * t + 1);
  VDI32 sum_high = hn::Zero(di);
  VDI32 sum_low = hn::Zero(di);
  ForPlanes(to, x, k, [&](std::size_t b, std::size_t plane, VF32 v) GEMMULE_LAMBDA {
    const VDI32 code = RoundedCodes(v, vscale, min, max);
    const VDI32 h = hn::ShiftRight<8>(hn::Add(code, hn::Set(di, 128)));
    const VDI32 l = hn::Sub(code, hn::ShiftLeft<8>(h));
    sum_high = hn::Add(sum_high, h);
    sum_low = hn::Add(sum_low, l);
    StoreCodes(to, b, plane, h, high);
    StoreCodes(to, b, plane, l, low);
  });
  to.sums[2 * t] = hn::ReduceSum(di, sum_high);
  to.sums[2 * t + 1] = hn::ReduceSum(di, sum_low);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(QuantizeStatic);
HWY_EXPORT(QuantizeTwoDigits);
HWY_EXPORT(LargestMagnitude);

Int8Rows Int8Rows::Layout(Encoding encoding, std::size_t k, std::size_t tokens, std::size_t digits) {
  constexpr std::size_t kFewRows = 2;
  constexpr std::size_t kWidestVector = 64;  // bytes
  Int8Rows rows;
  rows.tokens = tokens;
  rows.digits = digits;
  rows.tile = tokens * digits <= kFewRows ? 1 : kTile;
  rows.planes = Planes(encoding);
  rows.plane_codes = RoundUp(k / rows.planes, kWidestVector);
  return rows;
}

void QuantizeStatic(const Int8Rows& to, std::size_t t, std::span<const float> x, float scale) noexcept {
  HWY_DYNAMIC_DISPATCH(QuantizeStatic)(to, t, x.data(), x.size(), scale);
}

void QuantizeTwoDigits(const Int8Rows& to, std::size_t t, std::span<const float> x) noexcept {
  const float scale = HWY_DYNAMIC_DISPATCH(LargestMagnitude)(x.data(), x.size()) / 32639.0f;
  to.scales[t] = scale;
  // Nothing to round in zeros; Inf and NaN spread by the scale.
  const bool is_plain = scale > 0.0f && std::isfinite(scale);
  HWY_DYNAMIC_DISPATCH(QuantizeTwoDigits)(to, t, x.data(), is_plain ? x.size() : 0, is_plain ? scale : 1.0f);
}

}  // namespace gemmule
#endif  // HWY_ONCE
