#include "kernels/encode_codes.h"

#include <cstdint>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/encode_codes.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/encode-inl.h"
#include "kernels/lanes-inl.h"
#include "kernels/steps.h"
#include "quant/channelwise.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

HWY_INLINE VF32 RoundedTo(Encoding source, VF32 x) {
  if (source == Encoding::kBF16) return NearestBrain(x);
  return source == Encoding::kF16 ? NearestHalf(x) : x;
}

// clamp(round_half_even(x / scale)) and what it is decoded as.
class Grid {
 public:
  Grid(CodeRange range, float scale)
      : min_(hn::Set(F32(), range.min)),
        max_(hn::Set(F32(), range.max)),
        step_(hn::Set(F32(), scale)),
        divisor_(hn::Set(F32(), scale == 0.0f ? std::numeric_limits<float>::infinity() : scale)) {}

  HWY_INLINE VF32 Unclamped(VF32 x) const { return hn::Round(hn::Div(x, divisor_)); }
  HWY_INLINE VF32 Clamped(VF32 code) const { return hn::Min(hn::Max(code, min_), max_); }
  HWY_INLINE VF32 Decoded(VF32 code) const { return hn::Mul(code, step_); }

 private:
  VF32 min_;
  VF32 max_;
  VF32 step_;
  VF32 divisor_;
};

// Elements (at + lane) * planes + plane of x for lanes < count, the others zero.
template <std::size_t kPlanes>
HWY_INLINE void LoadPlanes(const float* x, std::size_t at, std::size_t count, VF32 (&v)[kPlanes]) {
  const F32 d;
  const float* from = x + at * kPlanes;
  HWY_ALIGN float part[kPlanes * kLanes];
  if (count < kLanes) {
    std::memset(part, 0, sizeof part);
    std::memcpy(part, from, count * kPlanes * sizeof(float));
    from = part;
  }
  if constexpr (kPlanes == 1) {
    v[0] = hn::LoadU(d, from);
  } else if constexpr (kPlanes == 2) {
    hn::LoadInterleaved2(d, from, v[0], v[1]);
  } else {
    hn::LoadInterleaved4(d, from, v[0], v[1], v[2], v[3]);
  }
}

template <Encoding kEncoding>
void EncodeGroups(Encoding source, const float* x, std::size_t n, const float* scales, std::size_t groups,
                  std::byte* out, EncodeCounts& counts) {
  using C = Channelwise<kEncoding>;
  const F32 d;
  const I32 di;
  const std::size_t group = n / groups;
  const std::size_t items = group / C::kPerByte;
  auto* bytes = reinterpret_cast<std::uint8_t*>(out);
  Tally tally;
  for (std::size_t g = 0; g < groups; ++g, x += group, bytes += items) {
    const Grid grid(RangeOf(kEncoding), scales[g]);
    bool on_grid = true;
    for (std::size_t chunk = 0; chunk < items; chunk += kVirtualLanes) {
      Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
        const std::size_t at = chunk + r * kLanes;
        if (at >= items) return;
        const std::size_t count = HWY_MIN(kLanes, items - at);
        VF32 v[C::kPerByte];
        LoadPlanes(x, at, count, v);
        auto packed = hn::Zero(di);
        Unroll<C::kPerByte>([&](auto plane) GEMMULE_LAMBDA {
          const VF32 unclamped = grid.Unclamped(v[plane]);
          const VF32 code = grid.Clamped(unclamped);
          const VF32 decoded = grid.Decoded(code);
          on_grid &= hn::AllTrue(d, hn::Eq(RoundedTo(source, decoded), v[plane]));
          tally.Add(r, v[plane], decoded);
          tally.AddSaturated(r, hn::Ne(code, unclamped));
          const auto stored = hn::Add(hn::ConvertTo(di, code), hn::Set(di, C::kOffset));
          packed =
              hn::Or(packed, hn::ShiftLeft<static_cast<int>(plane * C::kBits)>(hn::And(stored, hn::Set(di, C::kMask))));
        });
        const auto stored = hn::DemoteTo(U8(), packed);
        if (count == kLanes) {
          hn::StoreU(stored, U8(), bytes + at);
        } else {
          hn::StoreN(stored, U8(), bytes + at, count);
        }
      });
    }
    if (on_grid) tally.AddOnGrid(group);
  }
  tally.AddTo(counts, n);
}

void EncodeCodes(Encoding encoding, Encoding source, const float* x, std::size_t n, const float* scales,
                 std::size_t groups, std::byte* out, EncodeCounts& counts) {
  switch (encoding) {
    case Encoding::kC2: return EncodeGroups<Encoding::kC2>(source, x, n, scales, groups, out, counts);
    case Encoding::kC8: return EncodeGroups<Encoding::kC8>(source, x, n, scales, groups, out, counts);
    case Encoding::kU8: return EncodeGroups<Encoding::kU8>(source, x, n, scales, groups, out, counts);
    default: return EncodeGroups<Encoding::kC4>(source, x, n, scales, groups, out, counts);
  }
}

bool IsOnGrid(Encoding encoding, Encoding source, const float* x, std::size_t n, float scale) {
  const Grid grid(RangeOf(encoding), scale);
  for (std::size_t i = 0; i < n; i += kLanes) {
    const VF32 v = LoadCount(x + i, HWY_MIN(kLanes, n - i));
    const VF32 decoded = grid.Decoded(grid.Clamped(grid.Unclamped(v)));
    if (!hn::AllTrue(F32(), hn::Eq(RoundedTo(source, decoded), v))) return false;
  }
  return true;
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(EncodeCodes);
HWY_EXPORT(IsOnGrid);

void EncodeCodes(Encoding encoding, Encoding source, std::span<const float> x, std::span<const float> scales,
                 std::byte* out, EncodeCounts& counts) noexcept {
  HWY_DASSERT(!scales.empty() && x.size() % (scales.size() * Planes(encoding)) == 0);
  HWY_DYNAMIC_DISPATCH(EncodeCodes)(encoding, source, x.data(), x.size(), scales.data(), scales.size(), out, counts);
}

bool IsOnGrid(Encoding encoding, Encoding source, std::span<const float> x, float scale) noexcept {
  return HWY_DYNAMIC_DISPATCH(IsOnGrid)(encoding, source, x.data(), x.size(), scale);
}

}  // namespace gemmule
#endif  // HWY_ONCE
