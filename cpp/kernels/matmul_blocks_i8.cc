#include "kernels/matmul_blocks_i8.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_blocks_i8.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/block_panel-inl.h"
#include "kernels/dot-inl.h"
#include "kernels/groups-inl.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// What a tile must know of an encoding. Many share their code: where the target sums in 32 bits, all without minimum
// do.
struct Product {
  std::size_t parts;     // of a group, with a scale each
  std::size_t in_pairs;  // quads summed in 16 bits; 0: in 32
  bool bytes;            // signed
  bool offset;
  bool min;
};

template <Encoding kEncoding>
constexpr Product ProductOf() {
  constexpr bool kFive = kEncoding == Encoding::kQ5_0 || kEncoding == Encoding::kQ5_1 || kEncoding == Encoding::kQ5_K;
  constexpr bool kBytes = kEncoding == Encoding::kQ8_0 && kByteOffset == 0;
  constexpr std::size_t kParts = ScalesPerGroup(kEncoding);
  constexpr std::size_t kInPairs = kSumsInPairs < kEncoding == Encoding::kQ6_K ? 63 : kFive ? 31 : 15 > ;
  return {.parts = kParts,
          .in_pairs = kBytes ? 0 : HWY_MIN(kInPairs, kQuads / kParts),
          .bytes = kBytes,
          .offset = CodeOffset(kEncoding) != 0 && !kBytes,
          .min = HasMin(kEncoding)};
}

// Some groups of one to twelve tokens that lie together.
struct TileInput {
  const std::int8_t* HWY_RESTRICT codes;
  const float* HWY_RESTRICT scales;
  const std::int32_t* HWY_RESTRICT sums;
  std::size_t stride;  // tokens from group to group

  TileInput(const Int8Groups& x, std::size_t t, std::size_t g, std::size_t parts)
      : codes(x.codes + x.At(t, g) * kGroup),
        scales(x.scales + x.At(t, g)),
        sums(x.sums + x.At(t, g) * parts),
        stride(x.TileTokens(t)) {}
};

HWY_INLINE VI8 FourCodes(const std::int8_t* codes) {
  std::int32_t four;
  std::memcpy(&four, codes, sizeof four);
  return hn::BitCast(I8(), hn::Set(I32(), four));
}

// Adds n groups of a panel by kTokens tokens to y, or sets y where these are the first. y: of the panel's first row and
// the first token; `rows` of the panel are written.
template <Product kProduct, std::size_t kTokens>
HWY_INLINE void Tile(const Panel& panel, std::size_t n, const TileInput& x, bool first, std::size_t rows,
                     float* HWY_RESTRICT y, std::size_t y_stride) {
  constexpr std::size_t kParts = kProduct.parts;
  constexpr std::size_t kInPairs = kProduct.in_pairs;
  VPF32 total[kTokens];
  Unroll<kTokens>(
      [&](auto t) GEMMULE_LAMBDA { total[t] = first ? hn::Zero(PF32()) : hn::LoadN(PF32(), y + t * y_stride, rows); });
  for (std::size_t g = 0; g < n; ++g) {
    const std::size_t at = g * x.stride;
    VPF32 value[kTokens];  // in units of the activations' scale
    Unroll<kParts>([&](auto part) GEMMULE_LAMBDA {
      VI32 sum[kTokens];
      [[maybe_unused]] hn::Vec<I16> pairs[kTokens];
      Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
        sum[t] = kProduct.offset ? hn::Set(I32(), x.sums[(at + t) * kParts + part]) : hn::Zero(I32());
      });
      Unroll<kQuads / kParts>([&](auto q) GEMMULE_LAMBDA {
        constexpr std::size_t kQuad = part * (kQuads / kParts) + q;
        const VU8 codes = hn::Load(U8(), panel.codes[g][kQuad]);
        Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
          const VI8 four = FourCodes(x.codes + (at + t) * kGroup + kQuad * 4);
          if constexpr (kInPairs == 0) {
            sum[t] = DotOffsetBytes(codes, four, sum[t]);
          } else {
            const auto products = hn::SatWidenMulPairwiseAdd(I16(), codes, four);
            pairs[t] = q % kInPairs == 0 ? products : hn::Add(pairs[t], products);
            if constexpr (q % kInPairs == kInPairs - 1) {
              sum[t] = hn::Add(sum[t], hn::WidenMulPairwiseAdd(I32(), pairs[t], hn::Set(I16(), 1)));
            }
          }
        });
      });
      const VPF32 scale = hn::Load(PF32(), panel.scales[g][part]);
      Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
        const VPF32 dot = hn::ConvertTo(PF32(), sum[t]);
        value[t] = part == 0 ? hn::Mul(dot, scale) : hn::MulAdd(dot, scale, value[t]);
      });
    });
    Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
      if constexpr (kProduct.min) {
        const VPF32 sum = hn::ConvertTo(PF32(), hn::Set(I32(), x.sums[at + t]));
        value[t] = hn::MulAdd(hn::Load(PF32(), panel.minima[g]), sum, value[t]);
      }
      total[t] = hn::MulAdd(value[t], hn::Set(PF32(), x.scales[at + t]), total[t]);
    });
  }
  Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
    if (rows == kPanelRows) {
      hn::StoreU(total[t], PF32(), y + t * y_stride);
    } else {
      hn::StoreN(total[t], PF32(), y + t * y_stride, rows);
    }
  });
}

// A panel by `tokens` tokens, kTokens at a time, then what is left by smaller tiles.
template <Product kProduct, std::size_t kTokens>
void Tiles(const Panel& panel, std::size_t n, TileInput x, std::size_t tokens, bool first, std::size_t rows, float* y,
           std::size_t y_stride) {
  for (; tokens >= kTokens; tokens -= kTokens) {
    Tile<kProduct, kTokens>(panel, n, x, first, rows, y, y_stride);
    x.codes += kTokens * kGroup;
    x.scales += kTokens;
    x.sums += kTokens * kProduct.parts;
    y += kTokens * y_stride;
  }
  if constexpr (kTokens > 1) {
    if (tokens > 0) Tiles<kProduct, kTokens / 2>(panel, n, x, tokens, first, rows, y, y_stride);
  }
}

template <Encoding kEncoding>
void Rows(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Groups& x, float* y,
          std::size_t y_stride) {
  constexpr Product kProduct = ProductOf<kEncoding>();
  // Tokens whose integer and float sums fit the registers: 32 on AVX-512 and Arm, else 16.
  constexpr std::size_t kRegisters = (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64 ? 32 : 16;
  // Under a sanitizer two: GCC would take minutes for the rest.
  constexpr std::size_t kTile = HWY_IS_ASAN ? 2 : kRegisters == 32 ? 12 / kProduct.parts : 4;
  // Panels that go by for each tile of tokens; they stay in the second-level cache. For few tokens one is enough.
  constexpr std::size_t kPanels = 64 / kPanelRows;
  Panel panels[kPanels];
  const std::size_t rows_at_once = (x.tokens <= kTile ? 1 : kPanels) * kPanelRows;
  for (std::size_t row = row_begin; row < row_end; row += rows_at_once) {
    const std::size_t end = HWY_MIN(row + rows_at_once, row_end);
    for (std::size_t g = 0; g < x.groups(); g += kPanelGroups) {
      const std::size_t n = HWY_MIN(kPanelGroups, x.groups() - g);
      for (std::size_t at = row; at < end; at += kPanelRows) {
        PanelUnpacker<kEncoding>(w, at, row_end).Unpack(g, n, panels[(at - row) / kPanelRows]);
      }
      for (std::size_t t = 0; t < x.tokens; t += Int8Groups::kTileTokens) {
        const TileInput input(x, t, g, kProduct.parts);
        for (std::size_t at = row; at < end; at += kPanelRows) {
          Tiles<kProduct, kTile>(panels[(at - row) / kPanelRows], n, input, input.stride, g == 0,
                                 HWY_MIN(kPanelRows, row_end - at), y + t * y_stride + at, y_stride);
        }
      }
    }
  }
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
