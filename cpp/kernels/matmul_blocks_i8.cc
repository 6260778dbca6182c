#include "kernels/matmul_blocks_i8.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_blocks_i8.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/dot-inl.h"
#include "kernels/groups-inl.h"
#include "kernels/lanes-inl.h"
#include "kernels/tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// The eight lanes of a group's integer sums, and the same as floats.
using GF32 = hn::CappedTag<float, 8>;
using VGF32 = hn::Vec<GF32>;
static_assert(hn::MaxLanes(GF32()) * kGroupRegs == 8);

// Sixteen virtual lanes as sums of groups have them: [g % 2][register].
using GroupSums = VGF32[2][kGroupRegs];

template <class Sums>
HWY_INLINE float ReduceGroupSums(const Sums& sum) {
  VF32 lanes[kRegs];
  if constexpr (kRegs == 1) {
    lanes[0] = hn::Combine(F32(), sum[1][0], sum[0][0]);
  } else {
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA { lanes[r] = sum[r / kGroupRegs][r % kGroupRegs]; });
  }
  return ReduceLanes16(lanes);
}

// The scales of register r's lanes: lanes 0-3 of the eight belong to elements 0-15.
HWY_INLINE VGF32 LaneScales(const Group& group, std::size_t r, bool halves_differ) {
  if constexpr (kGroupRegs == 2) return hn::Set(GF32(), group.scale[r]);
  if (!halves_differ) return hn::Set(GF32(), group.scale[0]);
  const hn::Half<GF32> half;
  return hn::Combine(GF32(), hn::Set(half, group.scale[1]), hn::Set(half, group.scale[0]));
}

// One row by kTokens tokens from `first` on.
template <Encoding kEncoding, std::size_t kTokens>
HWY_INLINE void RowTile(const std::byte* row, const ScaleView& scales, const Int8Groups& x, std::size_t first,
                        float* HWY_RESTRICT y, std::size_t y_stride) {
  const std::size_t groups = x.groups();
  const std::int8_t* HWY_RESTRICT x_codes = x.codes + first * x.k;
  const float* HWY_RESTRICT x_scales = x.scales + first * groups;
  const float* HWY_RESTRICT x_sums8 = x.sums8 + first * groups;
  GroupSums sum[kTokens];
  Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
    Unroll<2 * kGroupRegs>([&](auto i) GEMMULE_LAMBDA { sum[t][i / kGroupRegs][i % kGroupRegs] = hn::Zero(GF32()); });
  });
  ForGroups<kEncoding>(row, scales, groups, [&](std::size_t g, auto parity, const Group& group) GEMMULE_LAMBDA {
    Unroll<kGroupRegs>([&](auto r) GEMMULE_LAMBDA {
      const SignedWeights<GI8> weights(group.codes[r]);
      const VGF32 scale = LaneScales(group, r, kEncoding == Encoding::kQ6_K);
      Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
        const VGI8 codes = hn::LoadU(GI8(), x_codes + t * x.k + g * kGroup + r * kGroupBytes);
        const VGF32 dot = hn::ConvertTo(GF32(), weights.Dot(codes));
        const VGF32 both = hn::Mul(scale, hn::Set(GF32(), x_scales[t * groups + g]));
        VGF32& s = sum[t][parity][r];
        s = hn::MulAdd(dot, both, s);
        if constexpr (HasMin(kEncoding)) {
          s = hn::MulAdd(hn::Set(GF32(), group.min), hn::Set(GF32(), x_sums8[t * groups + g]), s);
        }
      });
    });
  });
  Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA { y[t * y_stride] = ReduceGroupSums(sum[t]); });
}

template <Encoding kEncoding>
void Rows(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Groups& x, float* y,
          std::size_t y_stride) {
  // Tokens whose sums fit half of the registers: 32 on AVX-512 and Arm, else 16.
  constexpr std::size_t kRegisters = (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64 ? 32 : 16;
  // Under a sanitizer two: GCC would take minutes for the rest.
  constexpr std::size_t kTile = HWY_IS_ASAN ? 2 : kRegisters / 2 / (2 * kGroupRegs);
  ForTiles<kTile>(row_begin, row_end, x.tokens, [&](std::size_t row, std::size_t t, auto tokens) GEMMULE_LAMBDA {
    RowTile<kEncoding, tokens()>(w.Row(row), w.RowScales(row), x, t, y + t * y_stride + row, y_stride);
  });
}

void MatmulBlocksI8(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Groups& x, float* y,
                    std::size_t y_stride) {
  switch (w.encoding) {
    case Encoding::kG4: return Rows<Encoding::kG4>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kQ4_0: return Rows<Encoding::kQ4_0>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kQ4_1: return Rows<Encoding::kQ4_1>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kQ5_0: return Rows<Encoding::kQ5_0>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kQ5_1: return Rows<Encoding::kQ5_1>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kQ8_0: return Rows<Encoding::kQ8_0>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kQ4_K: return Rows<Encoding::kQ4_K>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kQ5_K: return Rows<Encoding::kQ5_K>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kQ6_K: return Rows<Encoding::kQ6_K>(w, row_begin, row_end, x, y, y_stride);
    default: HWY_DASSERT(false);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(MatmulBlocksI8);

void MatmulBlocksI8(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Groups& x, float* y,
                    std::size_t y_stride) noexcept {
  HWY_DASSERT(row_end <= w.rows && x.k == w.cols && w.cols % BlockElements(w.encoding) == 0);
  HWY_DYNAMIC_DISPATCH(MatmulBlocksI8)(w, row_begin, row_end, x, y, y_stride);
}

}  // namespace gemmule
#endif  // HWY_ONCE
