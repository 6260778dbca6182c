// Sums of products of bytes into int32 lanes: the one place that knows which instruction a target has for it.

#if defined(GEMMULE_KERNELS_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_DOT_INL_H_
#undef GEMMULE_KERNELS_DOT_INL_H_
#else
#define GEMMULE_KERNELS_DOT_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

#undef GEMMULE_HAVE_VNNI
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
#define GEMMULE_HAVE_VNNI 1
#else
#define GEMMULE_HAVE_VNNI 0
#endif

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

// acc + u * x, each int32 lane taking four neighbouring products. Exact: u <= 255, |x| <= 128.
#if GEMMULE_HAVE_VNNI
HWY_INLINE VI32 DotVnni(VU8 u, VI8 x, VI32 acc) {
#if HWY_COMPILER_GCC_ACTUAL
  // GCC adds two register moves to each intrinsic, which halves the throughput (GCC 12; docs/decisions/0004).
  asm("vpdpbusd %2, %1, %0" : "+v"(acc.raw) : "v"(u.raw), "vm"(x.raw));
  return acc;
#else
  return hn::SumOfMulQuadAccumulate(I32(), u, x, acc);
#endif
}
#endif

// Codes of 2 or 4 bits as stored (0 ... 15) times signed bytes.
HWY_INLINE VI32 DotCodes(VU8 codes, VI8 x, VI32 acc) {
#if GEMMULE_HAVE_VNNI
  return DotVnni(codes, x, acc);
#elif HWY_ARCH_ARM && HWY_TARGET == HWY_NEON_BF16  // has the dot product instructions
  return hn::SumOfMulQuadAccumulate(I32(), hn::BitCast(I8(), codes), x, acc);
#else
  // Two products fit 16 bits: 2 * 15 * 128 < 2^15.
  const auto pairs = hn::SatWidenMulPairwiseAdd(I16(), codes, x);
  return hn::Add(acc, hn::WidenMulPairwiseAdd(I32(), pairs, hn::Set(I16(), 1)));
#endif
}

// Signed bytes times signed bytes. Where the instruction wants one side unsigned, the weight is taken as w + 128: the
// caller subtracts kByteOffset * sum(x).
constexpr std::int32_t kByteOffset = GEMMULE_HAVE_VNNI ? 128 : 0;

HWY_INLINE VI32 DotBytes(VU8 bytes, VI8 x, VI32 acc) {
#if GEMMULE_HAVE_VNNI
  return DotVnni(hn::Xor(bytes, hn::Set(U8(), 0x80)), x, acc);
#else
  return hn::SumOfMulQuadAccumulate(I32(), hn::BitCast(I8(), bytes), x, acc);
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_DOT_INL_H_
