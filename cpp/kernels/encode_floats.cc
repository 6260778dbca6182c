#include "kernels/encode_floats.h"

#include <cstdint>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/encode_floats.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/encode-inl.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

template <Encoding kTarget>
HWY_INLINE VF32 Nearest(VF32 x) {
  if constexpr (kTarget == Encoding::kF16) return NearestHalf(x);
  if constexpr (kTarget == Encoding::kBF16) return NearestBrain(x);
  return x;
}

// The first `count` lanes, which hold numbers of the target type.
template <Encoding kTarget>
HWY_INLINE void StoreFloats(VF32 x, std::byte* out, std::size_t count) {
  const auto store = [=](auto d, auto v) GEMMULE_LAMBDA {
    auto* to = reinterpret_cast<hn::TFromD<decltype(d)>*>(out);
    if (count == kLanes) {
      hn::StoreU(v, d, to);
    } else {
      hn::StoreN(v, d, to, count);
    }
  };
  const hn::Rebind<std::uint16_t, F32> d16;
  if constexpr (kTarget == Encoding::kF32) {
    store(F32(), x);
  } else if constexpr (kTarget == Encoding::kF16) {
    store(d16, hn::BitCast(d16, hn::DemoteTo(hn::Rebind<hwy::float16_t, F32>(), x)));
  } else {
    store(d16, hn::TruncateTo(d16, hn::ShiftRight<16>(hn::BitCast(U32(), x))));
  }
}

// The least magnitude that is rounded to infinity.
constexpr float Overflow(Encoding target) {
  if (target == Encoding::kF16) return 65520.0f;
  return target == Encoding::kBF16 ? 0x1.FFp127f : std::numeric_limits<float>::infinity();
}

template <Encoding kTarget>
HWY_INLINE void Encode(const float* x, std::size_t n, std::byte* out, EncodeCounts& counts) {
  const F32 d;
  const VF32 overflow = hn::Set(d, Overflow(kTarget));
  const VF32 infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  Tally tally;
  for (std::size_t i = 0; i < n; i += kVirtualLanes) {
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
      const std::size_t at = i + r * kLanes;
      if (at >= n) return;
      const std::size_t count = HWY_MIN(kLanes, n - at);
      const VF32 v = LoadCount(x + at, count);
      const VF32 rounded = Nearest<kTarget>(v);
      StoreFloats<kTarget>(rounded, out + RowBytes(kTarget, at), count);
      tally.Add(r, v, rounded);
      tally.AddSaturated(r, hn::And(hn::Ge(hn::Abs(v), overflow), hn::Lt(hn::Abs(v), infinity)));
      tally.AddOnGrid(hn::CountTrue(d, hn::Eq(v, rounded)) - (kLanes - count));  // lanes past the end are zero
    });
  }
  tally.AddTo(counts, n);
}

void EncodeFloats(Encoding target, const float* x, std::size_t n, std::byte* out, EncodeCounts& counts) {
  if (target == Encoding::kF32) return Encode<Encoding::kF32>(x, n, out, counts);
  if (target == Encoding::kF16) return Encode<Encoding::kF16>(x, n, out, counts);
  Encode<Encoding::kBF16>(x, n, out, counts);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(EncodeFloats);

void EncodeFloats(Encoding target, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept {
  HWY_DASSERT(target == Encoding::kF32 || target == Encoding::kF16 || target == Encoding::kBF16);
  HWY_DYNAMIC_DISPATCH(EncodeFloats)(target, x.data(), x.size(), out, counts);
}

}  // namespace gemmule
#endif  // HWY_ONCE
