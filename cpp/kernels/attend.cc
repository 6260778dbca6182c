#include "kernels/attend.h"

#include <cmath>
#include <limits>

#include "kernels/steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attend.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/decode-inl.h"
#include "kernels/lanes-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// kKeys dot products of q (step order) with rows `stride` bytes apart.
template <Encoding kEncoding, std::size_t kKeys>
HWY_INLINE void Scores(const float* HWY_RESTRICT q, std::size_t e, const std::byte* keys, std::size_t stride,
                       float scale, float* HWY_RESTRICT scores) {
  constexpr std::size_t kPlanes = Planes(kEncoding);
  VF32 sum[kKeys][kRegs];
  Unroll<kKeys>([&](auto j)
                    GEMMULE_LAMBDA { Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA { sum[j][r] = hn::Zero(F32()); }); });
  ForChunks<kEncoding>(e, [&](std::size_t chunk, auto count) GEMMULE_LAMBDA {
    Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
      Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
        const VF32 v = hn::LoadU(F32(), q + (chunk * kPlanes + plane) * kVirtualLanes + r * kLanes);
        Unroll<kKeys>([&](auto j) GEMMULE_LAMBDA {
          const VF32 k =
              Decode<kEncoding>(keys + j * stride, chunk * kVirtualLanes + r * kLanes, CountOfReg(count, r), plane);
          sum[j][r] = hn::MulAdd(k, v, sum[j][r]);
        });
      });
    });
  });
  Unroll<kKeys>([&](auto j) GEMMULE_LAMBDA { scores[j] = scale * ReduceLanes16(sum[j]); });
}

// out (step order) = out * keep + sum over j < n of p[j] * row j.
template <Encoding kEncoding>
HWY_INLINE void AddValues(const float* HWY_RESTRICT p, std::size_t n, const std::byte* values, std::size_t stride,
                          std::size_t e, VF32 keep, float* HWY_RESTRICT out) {
  constexpr std::size_t kPlanes = Planes(kEncoding);
  ForChunks<kEncoding>(e, [&](std::size_t chunk, auto count) GEMMULE_LAMBDA {
    float* to = out + chunk * kPlanes * kVirtualLanes;
    VF32 sum[kPlanes][kRegs];
    Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
      Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
        sum[plane][r] = hn::Mul(keep, hn::LoadU(F32(), to + plane * kVirtualLanes + r * kLanes));
      });
    });
    for (std::size_t j = 0; j < n; ++j) {
      const VF32 weight = hn::Set(F32(), p[j]);
      Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
        Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
          const VF32 v =
              Decode<kEncoding>(values + j * stride, chunk * kVirtualLanes + r * kLanes, CountOfReg(count, r), plane);
          sum[plane][r] = hn::MulAdd(weight, v, sum[plane][r]);
        });
      });
    }
    Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
      Unroll<kRegs>([&](auto r)
                        GEMMULE_LAMBDA { hn::StoreU(sum[plane][r], F32(), to + plane * kVirtualLanes + r * kLanes); });
    });
  });
}

template <Encoding kEncoding>
void AttendEncoded(const KvView& kv, std::size_t kv_head, std::size_t first, std::size_t last, const float* q_in,
                   float* out_e, std::size_t e) {
  const F32 d;
  const std::size_t steps = StepFloats(kEncoding, e);
  HWY_ALIGN float q[kMaxHeadDim + 64];
  HWY_ALIGN float out[kMaxHeadDim + 64];
  ToSteps(kEncoding, {q_in, e}, {q, steps});
  for (std::size_t i = 0; i < steps; i += kLanes) hn::StoreU(hn::Zero(d), d, out + i);

  float max = -std::numeric_limits<float>::infinity();
  float sum = 0.0f;
  for (std::size_t position = first; position < last;) {
    const std::size_t row = position % KvView::kBlock;
    const std::size_t n = HWY_MIN(KvView::kBlock - row, last - position);
    const std::byte* block = kv.blocks[position / KvView::kBlock % kv.blocks.size()];
    const std::byte* keys = block + row * kv.row_bytes + kv_head * RowBytes(kEncoding, e);
    const std::byte* values = keys + KvView::kBlock * kv.row_bytes;

    HWY_ALIGN float p[KvView::kBlock];
    std::size_t j = 0;
    for (; j + 4 <= n; j += 4) Scores<kEncoding, 4>(q, e, keys + j * kv.row_bytes, kv.row_bytes, kv.k_scale, p + j);
    for (; j < n; ++j) Scores<kEncoding, 1>(q, e, keys + j * kv.row_bytes, kv.row_bytes, kv.k_scale, p + j);

    float new_max = max;
    for (j = 0; j < n; ++j) new_max = HWY_MAX(new_max, p[j]);
    const VF32 vmax = hn::Set(d, new_max);
    const VF32 keep = Exp(hn::Sub(hn::Set(d, max), vmax));  // 0 in the first block
    MapOver(n, p, [&](std::size_t i, std::size_t count) GEMMULE_LAMBDA {
      return Exp(hn::Sub(LoadCount(p + i, count), vmax));
    });
    const float block_sum = SumOver(n, [&](std::size_t i, std::size_t count, VF32 s)
                                           GEMMULE_LAMBDA { return hn::Add(s, LoadCount(p + i, count)); });
    sum = sum * hn::GetLane(keep) + block_sum;
    AddValues<kEncoding>(p, n, values, kv.row_bytes, e, keep, out);
    max = new_max;
    position += n;
  }
  const VF32 factor = hn::Set(d, kv.v_scale / sum);
  for (std::size_t i = 0; i < steps; i += kLanes) hn::StoreU(hn::Mul(factor, hn::LoadU(d, out + i)), d, out + i);
  FromSteps(kEncoding, {out, steps}, {out_e, e});
}

void Attend(const KvView& kv, std::size_t kv_head, std::size_t first, std::size_t last, const float* q, float* out,
            std::size_t e) {
  switch (kv.encoding) {
    case Encoding::kF32: return AttendEncoded<Encoding::kF32>(kv, kv_head, first, last, q, out, e);
    case Encoding::kBF16: return AttendEncoded<Encoding::kBF16>(kv, kv_head, first, last, q, out, e);
    case Encoding::kC8: return AttendEncoded<Encoding::kC8>(kv, kv_head, first, last, q, out, e);
    case Encoding::kC4: return AttendEncoded<Encoding::kC4>(kv, kv_head, first, last, q, out, e);
    default: HWY_DASSERT(false);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(Attend);

void Attend(const KvView& kv, std::size_t kv_head, std::size_t first, std::size_t last, std::span<const float> q,
            std::span<float> out) noexcept {
  HWY_DASSERT(first < last && q.size() == out.size() && q.size() <= kMaxHeadDim && q.size() % 2 == 0);
  HWY_DYNAMIC_DISPATCH(Attend)(kv, kv_head, first, last, q.data(), out.data(), q.size());
}

}  // namespace gemmule
#endif  // HWY_ONCE
