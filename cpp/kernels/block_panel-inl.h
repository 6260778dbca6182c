// Rows in blocks, unpacked to panels: a vector holds four neighbouring codes of each of its rows.

#if defined(GEMMULE_KERNELS_BLOCK_PANEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_BLOCK_PANEL_INL_H_
#undef GEMMULE_KERNELS_BLOCK_PANEL_INL_H_
#else
#define GEMMULE_KERNELS_BLOCK_PANEL_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/dot-inl.h"
#include "kernels/groups-inl.h"
#include "kernels/lanes-inl.h"
#include "kernels/transpose-inl.h"
#include "quant/blocks.h"
#include "quant/matrix.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

using PF32 = hn::Repartition<float, I32>;
using VPF32 = hn::Vec<PF32>;
constexpr std::size_t kPanelRows = hn::MaxLanes(I32());
constexpr std::size_t kPanelGroups = 24;  // at most; a multiple of a block's
constexpr std::size_t kQuads = kGroup / 4;

// Lane r: row r. Value of an element: (code - CodeOffset) * scale + min; element j of a group is byte j % 4 of codes[j
// / 4]. Of Q8_0, where the product of bytes is signed, the stored code itself.
struct Panel {
  HWY_ALIGN std::uint8_t codes[kPanelGroups][kQuads][kByteLanes];
  HWY_ALIGN float scales[kPanelGroups][2][kPanelRows];  // Q6_K: of elements 0-15 and 16-31; else [0]
  HWY_ALIGN float minima[kPanelGroups][kPanelRows];     // where HasMin
};

// The first of the floats16 in each lane's two, and the second.
HWY_INLINE VPF32 LowHalf(VI32 words) {
  const hn::Rebind<std::uint16_t, PF32> d16;
  const hn::Rebind<hwy::float16_t, PF32> dh;
  const auto bits = hn::And(words, hn::Set(I32(), 0xffff));
  return hn::PromoteTo(PF32(), hn::BitCast(dh, hn::TruncateTo(d16, hn::BitCast(hn::RebindToUnsigned<I32>(), bits))));
}
HWY_INLINE VPF32 HighHalf(VI32 words) { return LowHalf(hn::ShiftRight<16>(words)); }

// Bits 0-3 of each lane, as bit 4 of its four bytes.
HWY_INLINE VU8 SpreadBits(VI32 bits) {
  const VI32 spread = hn::Mul(hn::And(bits, hn::Set(I32(), 15)), hn::Set(I32(), 0x00204081));
  return hn::BitCast(U8(), hn::ShiftLeft<4>(hn::And(spread, hn::Set(I32(), 0x01010101))));
}

template <Encoding kEncoding>
class PanelUnpacker {
 public:
  static constexpr std::size_t kPerBlock = BlockElements(kEncoding) / kGroup;

  // Rows from `row` on; those from `end` on are the last one again.
  PanelUnpacker(const MatrixView& w, std::size_t row, std::size_t end) : next_(w.Row(row + kPanelRows)) {
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      rows_[r] = reinterpret_cast<const Block<kEncoding>*>(w.Row(HWY_MIN(row + r, end - 1)));
      if constexpr (kEncoding == Encoding::kG4) scales_[r] = w.RowScales(HWY_MIN(row + r, end - 1));
    }
  }

  // Groups [first, first + n), whole blocks. Asks for the next panel's bytes from memory meanwhile.
  HWY_INLINE void Unpack(std::size_t first, std::size_t n, Panel& panel) {
    for (std::size_t g = 0; g < n; g += kPerBlock) {
      const std::size_t block = (first + g) / kPerBlock;
      Prefetch(block);
      Codes(block, panel, g);
    }
    Scales(first / kPerBlock, n / kPerBlock, panel);
  }

 private:
  using B = Block<kEncoding>;
  using Words = VU8[4];  // [i]: bytes 4i ... 4i + 3 of 16, of every row

  // The next panel lies behind this one: as many bytes of it, in order, as a block takes in all rows of this one.
  HWY_INLINE void Prefetch(std::size_t block) const {
    constexpr std::size_t kLine = 64;  // bytes
    constexpr std::size_t kBytes = kPanelRows * sizeof(B);
    const std::byte* at = next_ + block * kBytes;
    for (std::size_t line = 0; line < kBytes; line += kLine) hwy::Prefetch(at + line);
  }

  // 16 bytes of each row's block from what field(block) points to.
  template <class Field>
  HWY_INLINE void Load(std::size_t block, const Field& field, Words& out) const {
    const auto load = [&](std::size_t r) GEMMULE_LAMBDA {
      const hn::CappedTag<std::uint8_t, 16> d;
      const auto bytes = hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(field(rows_[r][block])));
      return hn::BitCast(hn::CappedTag<std::int32_t, 4>(), bytes);
    };
    VI32 words[4];
    TransposeWords(load, words);
    Unroll<4>([&](auto i) GEMMULE_LAMBDA { out[i] = hn::BitCast(U8(), words[i]); });
  }

  HWY_INLINE void Codes(std::size_t block, Panel& panel, std::size_t g) const {
    const auto store = [&](std::size_t i, std::size_t quad, VU8 codes)
                           GEMMULE_LAMBDA { hn::Store(codes, U8(), panel.codes[g + i][quad]); };
    if constexpr (kEncoding == Encoding::kQ8_0) {
      Unroll<2>([&](auto h) GEMMULE_LAMBDA {
        Words w;
        Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.codes + 16 * h; }, w);
        Unroll<4>([&](auto i) GEMMULE_LAMBDA { store(0, 4 * h + i, OffsetBytes(w[i])); });
      });
    } else if constexpr (kPerBlock == 1) {
      constexpr bool kFive = kEncoding == Encoding::kQ5_0 || kEncoding == Encoding::kQ5_1;
      Words w;
      [[maybe_unused]] HWY_ALIGN std::int32_t bits[kPanelRows];
      if constexpr (kFive) {
        for (std::size_t r = 0; r < kPanelRows; ++r) std::memcpy(bits + r, rows_[r][block].high_bits, sizeof bits[r]);
        Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.low_bits; }, w);
      } else {
        Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.codes; }, w);
      }
      Unroll<kQuads>([&](auto q) GEMMULE_LAMBDA {
        VU8 codes = ShiftAndMask<q / 4 * 4>(w[q % 4], 15);
        if constexpr (kFive) codes = hn::Or(codes, SpreadBits(hn::ShiftRight<4 * q>(hn::Load(I32(), bits))));
        store(0, q, codes);
      });
    } else {
      Unroll<2>([&](auto h) GEMMULE_LAMBDA { CodesOfHalf<h>(block, store); });
    }
  }

  // Elements 16 kHalf ... 16 kHalf + 15 of a superblock's groups.
  template <std::size_t kHalf, class Store>
  HWY_INLINE void CodesOfHalf(std::size_t block, const Store& store) const {
    constexpr std::size_t kAt = 16 * kHalf;
    Words high;
    if constexpr (kEncoding == Encoding::kQ5_K) {
      Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.high_bits + kAt; }, high);
    }
    Unroll<4>([&](auto p) GEMMULE_LAMBDA {  // 32 bytes of low bits serve two groups
      Words low;
      Load(
          block,
          [&](const B& b) GEMMULE_LAMBDA {
            if constexpr (kEncoding == Encoding::kQ4_K) {
              return b.codes + p * kGroup + kAt;
            } else {
              return b.low_bits + p * kGroup + kAt;
            }
          },
          low);
      if constexpr (kEncoding == Encoding::kQ6_K && p % 2 == 0) {
        Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.high_bits + p / 2 * kGroup + kAt; }, high);
      }
      Unroll<2>([&](auto upper) GEMMULE_LAMBDA {
        constexpr std::size_t kI = kEncoding == Encoding::kQ6_K ? p / 2 * 4 + p % 2 + 2 * upper : 2 * p + upper;
        Unroll<4>([&](auto i) GEMMULE_LAMBDA {
          VU8 codes = ShiftAndMask<4 * upper>(low[i], 15);
          if constexpr (kEncoding == Encoding::kQ5_K) {
            codes = hn::Or(codes, ShiftAndMask<static_cast<int>(kI) - 4>(high[i], 16));
          } else if constexpr (kEncoding == Encoding::kQ6_K) {
            codes = hn::Or(codes, ShiftAndMask<2 * static_cast<int>(kI % 4) - 4>(high[i], 48));
          }
          store(kI, 4 * kHalf + i, codes);
        });
      });
    });
  }

  // out(b, floats): the float16 that field(block) is, of every row, for n blocks. All are moved before the first is
  // converted: a load right behind the small stores would wait for them.
  template <class Field, class Out>
  HWY_INLINE void Halves(std::size_t block, std::size_t n, const Field& field, const Out& out) const {
    const hn::Rebind<std::uint16_t, PF32> d16;
    const hn::Rebind<hwy::float16_t, PF32> dh;
    HWY_ALIGN std::uint16_t bits[kPanelGroups][kPanelRows];
    for (std::size_t b = 0; b < n; ++b) {
      for (std::size_t r = 0; r < kPanelRows; ++r) bits[b][r] = field(rows_[r][block + b]).Bits();
    }
    for (std::size_t b = 0; b < n; ++b) {
      out(b, hn::PromoteTo(PF32(), hn::BitCast(dh, hn::Load(d16, bits[b]))));
    }
  }

  HWY_INLINE void Scales(std::size_t block, std::size_t n, Panel& panel) const {
    if constexpr (kEncoding == Encoding::kG4) {
      for (std::size_t g = 0; g < n; ++g) {
        for (std::size_t r = 0; r < kPanelRows; ++r) panel.scales[g][0][r] = scales_[r].At(block + g);
      }
    } else if constexpr (kPerBlock == 1) {
      Halves(
          block, n, [](const B& b) GEMMULE_LAMBDA { return b.scale; },
          [&](std::size_t g, VPF32 v) GEMMULE_LAMBDA { hn::Store(v, PF32(), panel.scales[g][0]); });
      if constexpr (HasMin(kEncoding)) {
        Halves(
            block, n, [](const B& b) GEMMULE_LAMBDA { return b.min; },
            [&](std::size_t g, VPF32 v) GEMMULE_LAMBDA { hn::Store(v, PF32(), panel.minima[g]); });
      }
    } else if constexpr (kEncoding == Encoding::kQ6_K) {
      Halves(
          block, n, [](const B& b) GEMMULE_LAMBDA { return b.scale; },
          [&](std::size_t b, VPF32 v) GEMMULE_LAMBDA {
            Words w;
            Load(block + b, [](const B& of) GEMMULE_LAMBDA { return of.scales; }, w);
            Unroll<16>([&](auto i) GEMMULE_LAMBDA {
              const VI32 code = hn::ShiftRight<24>(hn::ShiftLeft<24 - i % 4 * 8>(hn::BitCast(I32(), w[i / 4])));
              hn::Store(hn::Mul(hn::ConvertTo(PF32(), code), v), PF32(), panel.scales[8 * b + i / 2][i % 2]);
            });
          });
    } else {
      for (std::size_t b = 0; b < n; ++b) {
        Words w;  // scale and min, then those of the groups, six bits each (quant/k_scales.h)
        Load(block + b, [](const B& of) GEMMULE_LAMBDA { return &of.scale; }, w);
        const VI32 halves = hn::BitCast(I32(), w[0]);
        const VU8 scales[2] = {ShiftAndMask<0>(w[1], 63), hn::Or(ShiftAndMask<0>(w[3], 15), ShiftAndMask<2>(w[1], 48))};
        const VU8 minima[2] = {ShiftAndMask<0>(w[2], 63), hn::Or(ShiftAndMask<4>(w[3], 15), ShiftAndMask<2>(w[2], 48))};
        const VPF32 scale = LowHalf(halves);
        const VPF32 min = hn::Neg(HighHalf(halves));
        Unroll<8>([&](auto i) GEMMULE_LAMBDA {
          const auto part = [&](VU8 v) GEMMULE_LAMBDA {
            return hn::ConvertTo(PF32(), hn::And(hn::ShiftRight<i % 4 * 8>(hn::BitCast(I32(), v)), hn::Set(I32(), 63)));
          };
          hn::Store(hn::Mul(part(scales[i / 4]), scale), PF32(), panel.scales[8 * b + i][0]);
          hn::Store(hn::Mul(part(minima[i / 4]), min), PF32(), panel.minima[8 * b + i]);
        });
      }
    }
  }

  const B* rows_[kPanelRows];
  const std::byte* next_;  // panel
  ScaleView scales_[kPanelRows];
};

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_BLOCK_PANEL_INL_H_
