// Sums of products of bytes into int32 lanes: the one place that knows which instruction a target has for it.

#if defined(GEMMULE_KERNELS_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_DOT_INL_H_
#undef GEMMULE_KERNELS_DOT_INL_H_
#else
#define GEMMULE_KERNELS_DOT_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "hwy/highway.h"

#undef GEMMULE_HAVE_VNNI
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
#define GEMMULE_HAVE_VNNI 1
#else
#define GEMMULE_HAVE_VNNI 0
#endif

// Whether one instruction adds four products of bytes to an int32 lane.
#undef GEMMULE_HAVE_DOT
#define GEMMULE_HAVE_DOT (GEMMULE_HAVE_VNNI || (HWY_ARCH_ARM && HWY_TARGET == HWY_NEON_BF16))

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using I32 = hn::ScalableTag<std::int32_t>;
using I16 = hn::Repartition<std::int16_t, I32>;
using I8 = hn::Repartition<std::int8_t, I32>;
using U8 = hn::Repartition<std::uint8_t, I32>;
using VI32 = hn::Vec<I32>;
using VI8 = hn::Vec<I8>;
using VU8 = hn::Vec<U8>;
constexpr std::size_t kByteLanes = hn::MaxLanes(U8());

#if GEMMULE_HAVE_VNNI
// acc + u * x, each int32 lane taking four neighbouring products. Exact: u <= 255, |x| <= 128.
template <class V32, class VU, class VI>
HWY_INLINE V32 DotVnni(VU u, VI x, V32 acc) {
#if HWY_COMPILER_GCC_ACTUAL
  // GCC adds two register moves to each intrinsic, which halves the throughput (GCC 12; docs/decisions/0004).
  asm("vpdpbusd %2, %1, %0" : "+v"(acc.raw) : "v"(u.raw), "vm"(x.raw));
  return acc;
#else
  return hn::SumOfMulQuadAccumulate(hn::DFromV<V32>(), u, x, acc);
#endif
}
#endif

// How kBits-bit codes are multiplied by signed bytes x, |x| <= 128, and the products added up.
//
// Codes of 2 and 4 bits are taken as stored, from 0 on. Those of 8 bits are unsigned, code + 128, where the instruction
// wants that of one side, else signed.
template <std::size_t kBits>
struct CodeProducts {
  static constexpr bool kUnsignedBytes = GEMMULE_HAVE_VNNI;
  // Without an instruction for four products, two times two of small codes are added in 16 bits first.
  static constexpr bool kIn16 = !GEMMULE_HAVE_DOT && kBits < 8;
  using D = std::conditional_t<kIn16, I16, I32>;
  using Sum = hn::Vec<D>;
  // Vectors of products that a sum has room for: 2 * 15 * 128 * 8 < 2^15, 2 * 3 * 128 * 42 < 2^15.
  static constexpr std::size_t kRoom =
      kIn16 ? 32767 / (2 * ((1 << kBits) - 1) * 128) : std::numeric_limits<std::size_t>::max();

  static HWY_INLINE Sum Zero() { return hn::Zero(D()); }

  static HWY_INLINE Sum Add(VU8 codes, VI8 x, Sum sum) {
#if GEMMULE_HAVE_VNNI
    return DotVnni(codes, x, sum);
#else
    if constexpr (kIn16) {
      return hn::Add(sum, hn::SatWidenMulPairwiseAdd(D(), codes, x));
    } else {
      return hn::SumOfMulQuadAccumulate(D(), hn::BitCast(I8(), codes), x, sum);
    }
#endif
  }

  static HWY_INLINE VI32 Widen(Sum sum) {
    if constexpr (kIn16) {
      return hn::WidenMulPairwiseAdd(I32(), sum, hn::Set(D(), 1));
    } else {
      return sum;
    }
  }
};

// Signed bytes as DotOffsetBytes wants the weights: where the instruction wants one side unsigned, w + 128.
HWY_INLINE VU8 OffsetBytes(VU8 bytes) { return GEMMULE_HAVE_VNNI ? hn::Xor(bytes, hn::Set(U8(), 0x80)) : bytes; }

constexpr std::int32_t kByteOffset = GEMMULE_HAVE_VNNI ? 128 : 0;

// acc + (w + kByteOffset) * x, |x| <= 127; exact. Codes of up to 127 are taken as they are.
HWY_INLINE VI32 DotOffsetBytes(VU8 offset, VI8 x, VI32 acc) {
#if GEMMULE_HAVE_VNNI
  return DotVnni(offset, x, acc);
#elif HWY_ARCH_X86
  // |w| * (x with the sign of w): two products fit 16 bits, 2 * 128 * 127 < 2^15.
  const VI8 w = hn::BitCast(I8(), offset);
  const auto pairs =
      hn::SatWidenMulPairwiseAdd(I16(), hn::BitCast(U8(), hn::Abs(w)), hn::IfNegativeThenNegOrUndefIfZero(w, x));
  return hn::Add(acc, hn::WidenMulPairwiseAdd(I32(), pairs, hn::Set(I16(), 1)));
#else
  return hn::SumOfMulQuadAccumulate(I32(), hn::BitCast(I8(), offset), x, acc);
#endif
}

// Sums in 16 bits of products of codes 0 ... kMax with bytes, |x| <= 127, that a lane holds exactly; 0: the target has
// an instruction that sums in 32 bits.
template <int kMax>
constexpr std::size_t kSumsInPairs = GEMMULE_HAVE_DOT ? 0 : 32767 / (2 * kMax * 127);

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_DOT_INL_H_
