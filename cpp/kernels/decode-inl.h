// Stored elements to float vectors, in step order (kernels/steps.h).

#if defined(GEMMULE_KERNELS_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_DECODE_INL_H_
#undef GEMMULE_KERNELS_DECODE_INL_H_
#else
#define GEMMULE_KERNELS_DECODE_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/groups-inl.h"
#include "kernels/lanes-inl.h"
#include "kernels/steps.h"
#include "quant/channelwise.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Loads `count` <= kLanes items of type T that start at item `at`, the other lanes zero. Any alignment.
template <class T>
HWY_INLINE hn::Vec<hn::Rebind<T, F32>> LoadItems(const std::byte* row, std::size_t at, std::size_t count) {
  const hn::Rebind<T, F32> d;
  const T* items = reinterpret_cast<const T*>(row) + at;
  return count == kLanes ? hn::LoadU(d, items) : hn::LoadN(d, items, count);
}

// Plane `plane` of `count` items (elements; for 2 and 4 bits bytes) from item `at` on, as floats. Codes come without
// their row's scale. Lanes past `count` hold some finite number.
template <Encoding kEncoding>
HWY_INLINE VF32 Decode(const std::byte* row, std::size_t at, std::size_t count, int plane) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const hn::RebindToUnsigned<F32> du;
  if constexpr (kEncoding == Encoding::kF32) {
    return LoadItems<float>(row, at, count);
  } else if constexpr (kEncoding == Encoding::kBF16) {
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, LoadItems<std::uint16_t>(row, at, count))));
  } else if constexpr (kEncoding == Encoding::kF16) {
    return FromHalfBits(d, LoadItems<std::uint16_t>(row, at, count));
  } else if constexpr (kEncoding == Encoding::kC8) {
    return hn::ConvertTo(d, hn::PromoteTo(di, LoadItems<std::int8_t>(row, at, count)));
  } else {
    using C = Channelwise<kEncoding>;
    const auto bytes = hn::PromoteTo(di, LoadItems<std::uint8_t>(row, at, count));
    const auto code = hn::And(hn::ShiftRightSame(bytes, plane * static_cast<int>(C::kBits)), hn::Set(di, C::kMask));
    return hn::ConvertTo(d, hn::Sub(code, hn::Set(di, C::kOffset)));
  }
}

// Calls step(chunk, counts...) for all chunks of n elements: body(chunk, count) with count 16 but for a last, partial
// one.
template <Encoding kEncoding, class Body>
HWY_INLINE void ForChunks(std::size_t n, const Body& body) {
  const std::size_t items = n / Planes(kEncoding);
  const std::size_t full = items / kVirtualLanes;
  for (std::size_t chunk = 0; chunk < full; ++chunk) body(chunk, std::integral_constant<std::size_t, kVirtualLanes>());
  if (items % kVirtualLanes != 0) body(full, items % kVirtualLanes);
}

// Of `count` <= 16 items of a chunk, those that register r holds.
HWY_INLINE std::size_t CountOfReg(std::size_t count, std::size_t r) {
  return count <= r * kLanes ? 0 : HWY_MIN(kLanes, count - r * kLanes);
}

// Calls body(step, r, w) for every step of kRows rows of n elements, of floats or codes, and every register r of its 16
// lanes, a constant. w[i] holds the elements of rows[i]: of codes without their row's scale.
template <Encoding kEncoding, std::size_t kRows, class Body>
HWY_INLINE void ForStepsOfRows(const std::byte* const (&rows)[kRows], std::size_t n, const Body& body) {
  constexpr std::size_t kPlanes = Planes(kEncoding);
  ForChunks<kEncoding>(n, [&](std::size_t chunk, auto count) GEMMULE_LAMBDA {
    Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
      Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
        VF32 w[kRows];
        Unroll<kRows>([&](auto i) GEMMULE_LAMBDA {
          w[i] = Decode<kEncoding>(rows[i], chunk * kVirtualLanes + r * kLanes, CountOfReg(count, r), plane);
        });
        body(chunk * kPlanes + plane, r, w);
      });
    });
  });
}

// Calls body(step, r, w) for every step of a row of n elements and every register r of its 16 lanes, a constant. w
// holds the elements: of codes without their row's scale, of blocks the exact values.
template <Encoding kEncoding, class Body>
HWY_INLINE void ForSteps(const std::byte* row, [[maybe_unused]] const ScaleView& scales, std::size_t n,
                         const Body& body) {
  if constexpr (IsBlock(kEncoding)) {
    const F32 d;
    ForGroups<kEncoding>(row, scales, n / kGroup, [&](std::size_t g, auto, const Group& group) GEMMULE_LAMBDA {
      HWY_ALIGN std::int8_t codes[kGroup];
      Unroll<kGroupRegs>([&](auto r) GEMMULE_LAMBDA { hn::Store(group.codes[r], GI8(), codes + r * kGroupBytes); });
      Unroll<kGroup / kVirtualLanes>([&](auto half) GEMMULE_LAMBDA {
        const VF32 scale = hn::Set(d, group.scale[half]);
        Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
          const auto bytes = hn::LoadU(hn::Rebind<std::int8_t, F32>(), codes + half * kVirtualLanes + r * kLanes);
          const VF32 code = hn::ConvertTo(d, hn::PromoteTo(hn::RebindToSigned<F32>(), bytes));
          // code * scale has at most 22 bits where there is a minimum: fused or not, only the sum is rounded.
          body(2 * g + half, r,
               HasMin(kEncoding) ? hn::MulAdd(code, scale, hn::Set(d, group.min)) : hn::Mul(code, scale));
        });
      });
    });
  } else {
    const std::byte* const rows[1] = {row};
    ForStepsOfRows<kEncoding>(rows, n,
                              [&](std::size_t step, auto r, const VF32(&w)[1]) GEMMULE_LAMBDA { body(step, r, w[0]); });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_DECODE_INL_H_
