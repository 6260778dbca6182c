#include "kernels/int8_rows.h"

#include <cmath>
#include <cstring>

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

// Calls body(b, count, plane, x) for all planes of all items b: x holds elements b * planes + plane.
template <class Body>
HWY_INLINE void ForPlanes(std::size_t planes, const float* x, std::size_t k, const Body& body) {
  const F32 d;
  const std::size_t items = k / planes;
  HWY_ALIGN float last[4 * kLanes];
  for (std::size_t b = 0; b < items; b += kLanes) {
    const std::size_t count = HWY_MIN(kLanes, items - b);
    const float* from = x + b * planes;
    if (count < kLanes) {  // the interleaved loads below read whole vectors
      std::memset(last, 0, sizeof last);
      std::memcpy(last, from, count * planes * sizeof(float));
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
    for (std::size_t plane = 0; plane < planes; ++plane) body(b, count, plane, v[plane]);
  }
}

std::int32_t QuantizeStatic(std::size_t planes, std::size_t plane_stride, const float* x, std::size_t k, float scale,
                            std::int8_t* HWY_RESTRICT out) {
  const F32 d;
  const VF32 vscale = hn::Set(d, scale);
  const VF32 min = hn::Set(d, -128.0f);
  const VF32 max = hn::Set(d, 127.0f);
  VDI32 sum = hn::Zero(DI32());
  ForPlanes(planes, x, k, [&](std::size_t b, std::size_t, std::size_t plane, VF32 v) GEMMULE_LAMBDA {
    const VDI32 codes = RoundedCodes(v, vscale, min, max);
    sum = hn::Add(sum, codes);
    hn::StoreU(hn::DemoteTo(DI8(), codes), DI8(),
               out + plane * plane_stride + b);  // lanes past K: zero, in the padding
  });
  return hn::ReduceSum(DI32(), sum);
}

float LargestMagnitude(const float* x, std::size_t k) { return MaxAbs(x, k); }

void QuantizeTwoDigits(std::size_t planes, std::size_t plane_stride, const float* x, std::size_t k, float scale,
                       std::int8_t* HWY_RESTRICT high, std::int8_t* HWY_RESTRICT low, std::int32_t* sums) {
  const F32 d;
  const DI32 di;
  const VF32 vscale = hn::Set(d, scale);
  const VF32 min = hn::Set(d, -32639.0f);
  const VF32 max = hn::Set(d, 32639.0f);
  VDI32 sum_high = hn::Zero(di);
  VDI32 sum_low = hn::Zero(di);
  ForPlanes(planes, x, k, [&](std::size_t b, std::size_t, std::size_t plane, VF32 v) GEMMULE_LAMBDA {
    const VDI32 code = RoundedCodes(v, vscale, min, max);
    const VDI32 h = hn::ShiftRight<8>(hn::Add(code, hn::Set(di, 128)));
    const VDI32 l = hn::Sub(code, hn::ShiftLeft<8>(h));
    sum_high = hn::Add(sum_high, h);
    sum_low = hn::Add(sum_low, l);
    hn::StoreU(hn::DemoteTo(DI8(), h), DI8(), high + plane * plane_stride + b);
    hn::StoreU(hn::DemoteTo(DI8(), l), DI8(), low + plane * plane_stride + b);
  });
  sums[0] = hn::ReduceSum(di, sum_high);
  sums[1] = hn::ReduceSum(di, sum_low);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(QuantizeStatic);
HWY_EXPORT(QuantizeTwoDigits);
HWY_EXPORT(LargestMagnitude);

std::int32_t QuantizeStatic(Encoding encoding, std::span<const float> x, float scale, std::int8_t* out) noexcept {
  const std::size_t planes = Planes(encoding);
  const std::size_t stride = PlaneStride(encoding, x.size());
  std::memset(out, 0, planes * stride);
  return HWY_DYNAMIC_DISPATCH(QuantizeStatic)(planes, stride, x.data(), x.size(), scale, out);
}

float QuantizeTwoDigits(Encoding encoding, std::span<const float> x, std::int8_t* high, std::int8_t* low,
                        std::int32_t* sums) noexcept {
  const std::size_t planes = Planes(encoding);
  const std::size_t stride = PlaneStride(encoding, x.size());
  std::memset(high, 0, planes * stride);
  std::memset(low, 0, planes * stride);
  sums[0] = sums[1] = 0;
  const float scale = HWY_DYNAMIC_DISPATCH(LargestMagnitude)(x.data(), x.size()) / 32639.0f;
  if (!(scale > 0.0f) || !std::isfinite(scale)) return scale;  // zeros; or Inf and NaN, which spread by the scale
  HWY_DYNAMIC_DISPATCH(QuantizeTwoDigits)(planes, stride, x.data(), x.size(), scale, high, low, sums);
  return scale;
}

}  // namespace gemmule
#endif  // HWY_ONCE
