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

// Unpacked rows. Element j of group g is byte j % 4 of codes[g][j / 4].
struct Panel : PanelScales {
  HWY_ALIGN std::uint8_t codes[kPanelGroups][kQuads][kByteLanes];
};

HWY_INLINE VI8 FourCodes(const std::int8_t* codes) {
  std::int32_t four;
  std::memcpy(&four, codes, sizeof four);
  return hn::BitCast(I8(), hn::Set(I32(), four));
}

// Adds four products of bytes to each lane of `sum`. Where they are summed in pairs first, quad number kQuad of a
// stretch of kInPairs is the last one.
template <std::size_t kInPairs, std::size_t kQuad>
HWY_INLINE void AddProducts(VU8 codes, VI8 four, VI32& sum, [[maybe_unused]] hn::Vec<I16>& pairs) {
  if constexpr (kInPairs == 0) {
    sum = DotOffsetBytes(codes, four, sum);
  } else {
    const auto products = hn::SatWidenMulPairwiseAdd(I16(), codes, four);
    pairs = kQuad % kInPairs == 0 ? products : hn::Add(pairs, products);
    if constexpr (kQuad % kInPairs == kInPairs - 1) {
      sum = hn::Add(sum, hn::WidenMulPairwiseAdd(I32(), pairs, hn::Set(I16(), 1)));
    }
  }
}

// What a group adds to a total: its parts' integer sums, each times its scale, one after the other.
template <std::size_t kPart>
HWY_INLINE void AddPart(VI32 sum, VPF32 scale, VPF32& value) {
  const VPF32 dot = hn::ConvertTo(PF32(), sum);
  value = kPart == 0 ? hn::Mul(dot, scale) : hn::MulAdd(dot, scale, value);
}
template <Product kProduct>
HWY_INLINE void AddGroup(const PanelScales& panel, std::size_t g, const TileInput& x, std::size_t at, VPF32 value,
                         VPF32& total) {
  if constexpr (kProduct.min) {
    const VPF32 sum = hn::ConvertTo(PF32(), hn::Set(I32(), x.sums[at]));
    value = hn::MulAdd(hn::Load(PF32(), panel.minima[g]), sum, value);
  }
  total = hn::MulAdd(value, hn::Set(PF32(), x.scales[at]), total);
}

// Adds n groups of a panel by kTokens tokens to y, or sets y where these are the first. y: of the panel's first wanted
// row and the first token.
template <Product kProduct, std::size_t kTokens>
HWY_INLINE void Tile(const Panel& panel, std::size_t n, const TileInput& x, bool first, const PanelPlace& place,
                     float* HWY_RESTRICT y, std::size_t y_stride) {
  constexpr std::size_t kParts = kProduct.parts;
  constexpr std::size_t kInPairs = kProduct.in_pairs;
  VPF32 total[kTokens];
  Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA { total[t] = first ? hn::Zero(PF32()) : place.Load(y + t * y_stride); });
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
          AddProducts<kInPairs, q>(codes, four, sum[t], pairs[t]);
        });
      });
      const VPF32 scale = hn::Load(PF32(), panel.scales[g][part]);
      Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA { AddPart<part>(sum[t], scale, value[t]); });
    });
    Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA { AddGroup<kProduct>(panel, g, x, at + t, value[t], total[t]); });
  }
  Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA { place.Store(total[t], y + t * y_stride); });
}

// A panel by `tokens` tokens, kTokens at a time, then what is left by smaller tiles.
template <Product kProduct, std::size_t kTokens>
void Tiles(const Panel& panel, std::size_t n, TileInput x, std::size_t tokens, bool first, const PanelPlace& place,
           float* y, std::size_t y_stride) {
  for (; tokens >= kTokens; tokens -= kTokens) {
    Tile<kProduct, kTokens>(panel, n, x, first, place, y, y_stride);
    x.codes += kTokens * kGroup;
    x.scales += kTokens;
    x.sums += kTokens * kProduct.parts;
    y += kTokens * y_stride;
  }
  if constexpr (kTokens > 1) {
    if (tokens > 0) Tiles<kProduct, kTokens / 2>(panel, n, x, tokens, first, place, y, y_stride);
  }
}

// One token: the codes are multiplied as they are unpacked, a stretch's integer sums are kept, then its floats are
// added up as tiles do.
template <Encoding kEncoding>
void OneToken(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Groups& x, float* y) {
  constexpr Product kProduct = ProductOf<kEncoding>();
  constexpr std::size_t kParts = kProduct.parts;
  constexpr std::size_t kInPairs = HWY_MIN(kProduct.in_pairs, 4);
  PanelScales panel;
  HWY_ALIGN std::int32_t sums[kPanelGroups][kParts][kPanelRows];
  for (std::size_t row = row_begin; row < row_end;) {
    const PanelPlace place(w, row, row_end);
    const PanelRows<kEncoding> rows(w, place);
    VPF32 total = hn::Zero(PF32());
    for (std::size_t first = 0; first < x.groups(); first += kPanelGroups) {
      const std::size_t n = HWY_MIN(kPanelGroups, x.groups() - first);
      const TileInput input(x, 0, first, kParts);
      rows.Unpack(first, n, panel, [&](std::size_t g, auto half, const FourQuads& codes) GEMMULE_LAMBDA {
        constexpr std::size_t kPart = half % kParts;
        VI32 sum = kPart != half     ? hn::Load(I32(), sums[g][kPart])
                   : kProduct.offset ? hn::Set(I32(), input.sums[g * kParts + kPart])
                                     : hn::Zero(I32());
        hn::Vec<I16> pairs;
        Unroll<4>([&](auto q) GEMMULE_LAMBDA {
          const VI8 four = FourCodes(input.codes + g * kGroup + 16 * half + 4 * q);
          AddProducts<kInPairs, q>(codes[q], four, sum, pairs);
        });
        hn::Store(sum, I32(), sums[g][kPart]);
      });
      for (std::size_t g = 0; g < n; ++g) {
        VPF32 value;
        Unroll<kParts>([&](auto part) GEMMULE_LAMBDA {
          AddPart<part>(hn::Load(I32(), sums[g][part]), hn::Load(PF32(), panel.scales[g][part]), value);
        });
        AddGroup<kProduct>(panel, g, input, g, value, total);
      }
    }
    place.Store(total, y + row);
    row += place.count();
  }
}

template <Encoding kEncoding>
void Rows(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Groups& x, float* y,
          std::size_t y_stride) {
  if (x.tokens == 1) return OneToken<kEncoding>(w, row_begin, row_end, x, y);
  constexpr Product kProduct = ProductOf<kEncoding>();
  // Tokens whose integer and float sums fit the registers: 32 on AVX-512 and Arm, else 16.
  constexpr std::size_t kRegisters = (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64 ? 32 : 16;
  // Under a sanitizer two: GCC would take minutes for the rest.
  constexpr std::size_t kTile = HWY_IS_ASAN ? 2 : kRegisters == 32 ? 12 / kProduct.parts : 4;
  // Panels that go by for each tile of tokens; they stay in the second-level cache. For few tokens one is enough.
  constexpr std::size_t kPanels = 64 / kPanelRows;
  const std::size_t most = x.tokens <= kTile ? 1 : kPanels;
  Panel panels[kPanels];
  PanelPlace places[kPanels];
  for (std::size_t row = row_begin; row < row_end;) {
    std::size_t count = 0;
    for (; row < row_end && count < most; row += places[count++].count()) places[count] = PanelPlace(w, row, row_end);
    for (std::size_t g = 0; g < x.groups(); g += kPanelGroups) {
      const std::size_t n = HWY_MIN(kPanelGroups, x.groups() - g);
      for (std::size_t i = 0; i < count; ++i) {
        PanelRows<kEncoding>(w, places[i])
            .Unpack(g, n, panels[i], [&](std::size_t group, auto half, const FourQuads& codes) GEMMULE_LAMBDA {
              Unroll<4>([&](auto q)
                            GEMMULE_LAMBDA { hn::Store(codes[q], U8(), panels[i].codes[group][4 * half + q]); });
            });
      }
      for (std::size_t t = 0; t < x.tokens; t += Int8Groups::kTileTokens) {
        const TileInput input(x, t, g, kProduct.parts);
        for (std::size_t i = 0; i < count; ++i) {
          Tiles<kProduct, kTile>(panels[i], n, input, input.stride, g == 0, places[i],
                                 y + t * y_stride + places[i].row(), y_stride);
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
