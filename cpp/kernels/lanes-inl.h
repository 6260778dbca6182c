// Sixteen virtual float lanes, the same on every instruction set: one register on AVX-512, two on AVX2, four on SSE2
// and NEON. Lane j holds elements j, j + 16, ..., so every target adds in the same order and gives the same bits
// (docs/decisions/0003).

#if defined(GEMMULE_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_LANES_INL_H_
#undef GEMMULE_KERNELS_LANES_INL_H_
#else
#define GEMMULE_KERNELS_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "hwy/highway.h"

// Every lambda of a kernel: compiled for the target and always inlined. Left to itself, GCC calls some of them and then
// keeps their accumulators in memory, which costs half of the speed.
#undef GEMMULE_LAMBDA
#define GEMMULE_LAMBDA HWY_ATTR __attribute__((always_inline))

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using VF32 = hn::Vec<F32>;
constexpr std::size_t kVirtualLanes = 16;
constexpr std::size_t kLanes = hn::MaxLanes(F32());
constexpr std::size_t kRegs = kVirtualLanes / kLanes;

// Calls body(integral_constant 0), ..., body(integral_constant kN - 1). Accumulators indexed by these constants stay in
// registers; a loop, unrolled or not, makes GCC keep them on the stack.
template <std::size_t kN, class Body>
HWY_INLINE void Unroll(Body&& body) {
  [&]<std::size_t... kI>(std::index_sequence<kI...>)
      GEMMULE_LAMBDA { (body(std::integral_constant<std::size_t, kI>()), ...); }(std::make_index_sequence<kN>());
}

// The floats that `bits` are as float16, infinities and NaN among them.
template <class D>
HWY_INLINE hn::Vec<D> FromHalfBits(D d, hn::Vec<hn::Rebind<std::uint16_t, D>> bits) {
  const auto floats = hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), bits));
#if HWY_TARGET == HWY_SSE2
  // What stands in for PromoteTo takes their exponent for one more, the numbers for 65536 and above.
  const auto is_finite = hn::Lt(hn::Abs(floats), hn::Set(d, 65536.0f));
  return hn::IfThenElse(is_finite, floats, hn::Or(floats, hn::Set(d, std::numeric_limits<float>::infinity())));
#else
  return floats;
#endif
}

// 16 -> 8 -> 4 -> 2 -> 1, the upper half added to the lower.
HWY_INLINE float ReduceLanes16(const VF32 (&sum)[kRegs]) {
  HWY_ALIGN float lanes[kVirtualLanes];
  for (std::size_t r = 0; r < kRegs; ++r) hn::Store(sum[r], F32(), lanes + r * kLanes);
  const hn::CappedTag<float, 4> d4;
  const auto low = hn::Add(hn::Load(d4, lanes), hn::Load(d4, lanes + 8));
  const auto high = hn::Add(hn::Load(d4, lanes + 4), hn::Load(d4, lanes + 12));
  hn::Store(hn::Add(low, high), d4, lanes);
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

// sum over i < n of term(i, count), where term loads elements [i, i + count) into a vector whose other lanes are zero,
// and adds itself to what it is given: VF32 term(size_t i, size_t count, VF32 sum).
template <class Term>
HWY_INLINE float SumOver(std::size_t n, const Term& term) {
  VF32 sum[kRegs];
  for (auto& s : sum) s = hn::Zero(F32());
  for (std::size_t i = 0; i < n; i += kVirtualLanes) {
    for (std::size_t r = 0; r < kRegs; ++r) {
      const std::size_t at = i + r * kLanes;
      if (at >= n) break;
      sum[r] = term(at, HWY_MIN(kLanes, n - at), sum[r]);
    }
  }
  return ReduceLanes16(sum);
}

// y[i] = map(i, count) for i < n, where map returns a vector that starts at element i and has `count` elements in use.
template <class Map>
HWY_INLINE void MapOver(std::size_t n, float* y, const Map& map) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(map(i, kLanes), F32(), y + i);
  if (i < n) hn::StoreN(map(i, n - i), F32(), y + i, n - i);
}

// Elements [0, count) of p, the other lanes zero.
HWY_INLINE VF32 LoadCount(const float* p, std::size_t count) {
  return count == kLanes ? hn::LoadU(F32(), p) : hn::LoadN(F32(), p, count);
}

// max |x[i]| for i < n, 0 if there are none, NaN where one is NaN. Exact, so in any order.
HWY_INLINE float MaxAbs(const float* x, std::size_t n) {
  // Magnitudes are in order as integers too, and NaN above all: of floats, instruction sets differ in which they keep.
  const F32 d;
  const hn::RebindToSigned<F32> di;
  auto max = hn::Zero(di);
  for (std::size_t i = 0; i < n; i += kLanes) {
    max = hn::Max(max, hn::BitCast(di, hn::Abs(LoadCount(x + i, HWY_MIN(kLanes, n - i)))));
  }
  return hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, max)));
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_LANES_INL_H_
