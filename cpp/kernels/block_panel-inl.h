// Some rows in blocks, unpacked together: a vector holds four neighbouring codes of each of them.

#if defined(GEMMULE_KERNELS_BLOCK_PANEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_BLOCK_PANEL_INL_H_
#undef GEMMULE_KERNELS_BLOCK_PANEL_INL_H_
#else
#define GEMMULE_KERNELS_BLOCK_PANEL_INL_H_
#endif

#include <algorithm>
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

// Under a sanitizer lambdas may be called: GCC would take seven minutes for functions as long as the whole kernels.
#if HWY_IS_ASAN
#undef GEMMULE_LAMBDA
#define GEMMULE_LAMBDA HWY_ATTR
#endif

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

using PF32 = hn::Repartition<float, I32>;
using VPF32 = hn::Vec<PF32>;
constexpr std::size_t kPanelRows = hn::MaxLanes(I32());
constexpr std::size_t kPanelGroups = 24;  // at most; a multiple of a block's
constexpr std::size_t kQuads = kGroup / 4;

// Lane r: row r. Value of an element: (code - CodeOffset) * scale + min.
struct PanelScales {
  HWY_ALIGN float scales[kPanelGroups][2][kPanelRows];  // Q6_K: of elements 0-15 and 16-31; else [0]
  HWY_ALIGN float minima[kPanelGroups][kPanelRows];     // where HasMin
};

// Codes of four quads, a vector each: byte 4r + j is element j of row r's. Of Q8_0, where the product of bytes is
// signed, the stored code itself.
using FourQuads = VU8[4];

// The first of the floats16 in each lane's two, and the second.
HWY_INLINE VPF32 LowHalf(VI32 words) {
  const hn::Rebind<std::uint16_t, PF32> d16;
  const auto bits = hn::And(words, hn::Set(I32(), 0xffff));
  return FromHalfBits(PF32(), hn::TruncateTo(d16, hn::BitCast(hn::RebindToUnsigned<I32>(), bits)));
}
HWY_INLINE VPF32 HighHalf(VI32 words) { return LowHalf(hn::ShiftRight<16>(words)); }

// Bits 0-3 of each lane, as bit 4 of its four bytes.
HWY_INLINE VU8 SpreadBits(VI32 bits) {
  const VI32 spread = hn::Mul(hn::And(bits, hn::Set(I32(), 15)), hn::Set(I32(), 0x00204081));
  return hn::BitCast(U8(), hn::ShiftLeft<4>(hn::And(spread, hn::Set(I32(), 0x01010101))));
}

// Where a panel's wanted rows are: rows [row, row + count) of the matrix are its lanes [lane, lane + count).
class PanelPlace {
 public:
  PanelPlace() = default;
  // From `row` on as many as fit, of those before `end`. The last panel of a matrix begins further up, so that its rows
  // are all there; one with fewer rows than a panel has is taken row by row, each in all lanes.
  PanelPlace(const MatrixView& w, std::size_t row, std::size_t end)
      : whole_(w.rows >= kPanelRows),
        first_(whole_ ? HWY_MIN(row, w.rows - kPanelRows) : row),
        lane_(row - first_),
        count_(whole_ ? HWY_MIN(kPanelRows - lane_, end - row) : 1) {}

  bool whole() const { return whole_; }         // lanes are rows
  std::size_t first() const { return first_; }  // row in lane 0
  std::size_t row() const { return first_ + lane_; }
  std::size_t count() const { return count_; }

  // y: of the first wanted row. The other lanes are anything.
  HWY_INLINE VPF32 Load(const float* y) const {
    if (HWY_LIKELY(count_ == kPanelRows)) return hn::LoadU(PF32(), y);
    HWY_ALIGN float lanes[kPanelRows] = {};
    std::copy_n(y, count_, lanes + lane_);
    return hn::Load(PF32(), lanes);
  }
  HWY_INLINE void Store(VPF32 v, float* y) const {
    if (HWY_LIKELY(count_ == kPanelRows)) return hn::StoreU(v, PF32(), y);
    HWY_ALIGN float lanes[kPanelRows];
    hn::Store(v, PF32(), lanes);
    std::copy_n(lanes + lane_, count_, y);
  }

 private:
  bool whole_ = true;
  std::size_t first_ = 0;
  std::size_t lane_ = 0;
  std::size_t count_ = 0;
};

// Rows of a panel, and their unpacking.
template <Encoding kEncoding>
class PanelRows {
 public:
  static constexpr std::size_t kPerBlock = BlockElements(kEncoding) / kGroup;

  PanelRows(const MatrixView& w, const PanelPlace& place)
      : first_(w.Row(place.first())), stride_(place.whole() ? w.RowBytes() + w.padding : 0) {
    if constexpr (kEncoding == Encoding::kG4) {
      for (std::size_t r = 0; r < kPanelRows; ++r) scales_[r] = w.RowScales(place.first() + (place.whole() ? r : 0));
    }
  }

  // Unpacks groups [first, first + n), whole blocks: their scales, and codes(g, half, FourQuads) for elements 16 half
  // ... 16 half + 15 of group first + g. The halves of a group come in order. Asks for the next panel's bytes from
  // memory meanwhile.
  template <class Codes>
  HWY_INLINE void Unpack(std::size_t first, std::size_t n, PanelScales& panel, const Codes& codes) const {
    std::size_t g = 0;
    if constexpr (kEncoding == Encoding::kQ4_0) {
      for (; g + 8 <= n; g += 8) EightBlocks(first + g, g, panel, codes);
    }
    Scales((first + g) / kPerBlock, (n - g) / kPerBlock, g, panel);
    for (; g < n; g += kPerBlock) {
      const std::size_t block = (first + g) / kPerBlock;
      OneBlock(block, g, codes);
    }
  }

 private:
  using B = Block<kEncoding>;
  using Words = VI32[4];  // [i]: bytes 4i ... 4i + 3 of 16, of every row

  HWY_INLINE const B& At(std::size_t r, std::size_t block) const {
    return reinterpret_cast<const B*>(first_ + r * stride_)[block];
  }

  // What is asked of the memory, in kParts parts, while kBlocks from one on are unpacked.
  template <std::size_t kBlocks, std::size_t kParts>
  class Ahead {
   public:
    Ahead(const PanelRows& rows, std::size_t block)
        : panel_(rows.first_ + kPanelRows * rows.stride_ + block * sizeof(B) * kPanelRows), stride_(rows.stride_) {
      const std::size_t next = (block + kBlocks) * sizeof(B);
      row_ = rows.first_ + (next + kBytes <= stride_ ? next : kPanelRows * stride_) + kBytes - 1;
    }

    template <std::size_t kPart>
    HWY_INLINE void Ask() const {
      // The next panel lies behind this one: as many bytes of it, in order, as the blocks take in all rows of this one.
      constexpr std::size_t kLines = (kBytes * kPanelRows + kLine - 1) / kLine;
      for (std::size_t i = kLines * kPart / kParts; i < kLines * (kPart + 1) / kParts; ++i) {
        hwy::Prefetch(panel_ + i * kLine);
      }
      // A processor drops requests when it has too many, so once more shortly before: the next blocks of each row, or
      // the first of the next panel. Lines are counted from the end: the first one is often shared with this one's.
      for (std::size_t r = kPanelRows * kPart / kParts; r < kPanelRows * (kPart + 1) / kParts; ++r) {
        for (std::size_t i = 0; i < kBytes / kLine; ++i) hwy::Prefetch(row_ + r * stride_ - i * kLine);
      }
    }

   private:
    static constexpr std::size_t kLine = 64;  // bytes of the cache
    static constexpr std::size_t kBytes = kBlocks * sizeof(B);

    const std::byte* panel_;
    const std::byte* row_;
    std::size_t stride_;
  };

  // 16 bytes of each row; `at`: those of the first.
  HWY_INLINE void LoadWords(const void* at, Words& out) const {
    // Hidden from the compiler, which would make a pointer for each row beforehand, more than there are registers.
    std::size_t stride = stride_;
    asm volatile("" : "+r"(stride));
    const auto* bytes = static_cast<const std::uint8_t*>(at);
    TransposeWords(
        [&](std::size_t r) GEMMULE_LAMBDA {
          const hn::CappedTag<std::uint8_t, 16> d;
          const auto loaded = hn::LoadU(d, bytes + r / 4 * (4 * stride) + r % 4 * stride);
          return hn::BitCast(hn::CappedTag<std::int32_t, 4>(), loaded);
        },
        out);
  }
  // From what field(block) of the first row points to.
  template <class Field>
  HWY_INLINE void Load(std::size_t block, const Field& field, Words& out) const {
    LoadWords(field(At(0, block)), out);
  }

  // The bits of four words that `mask` has in each byte, shifted down.
  template <int kShift>
  static HWY_INLINE void Bits(const Words& words, int mask, FourQuads& out) {
    Unroll<4>([&](auto i) GEMMULE_LAMBDA { out[i] = ShiftAndMask<kShift>(hn::BitCast(U8(), words[i]), mask); });
  }
  static HWY_INLINE void Or(const FourQuads& more, FourQuads& out) {
    Unroll<4>([&](auto i) GEMMULE_LAMBDA { out[i] = hn::Or(out[i], more[i]); });
  }

  // The low and the high four bits of 16 bytes of each row, as the halves of group g.
  template <class Codes>
  static HWY_INLINE void Nibbles(const Words& words, std::size_t g, const Codes& codes) {
    Unroll<2>([&](auto half) GEMMULE_LAMBDA {
      FourQuads four;
      Bits<4 * half>(words, 15, four);
      codes(g, half, four);
    });
  }

  // Eight blocks of 18 bytes are nine times 16, so that no byte is loaded twice and the scales come along. Every other
  // block begins in the middle of a word.
  template <class Codes>
  HWY_INLINE void EightBlocks(std::size_t block, std::size_t g, PanelScales& panel, const Codes& codes) const {
    static_assert(sizeof(B) == 18 || kEncoding != Encoding::kQ4_0);
    const Ahead<8, 8> ahead(*this, block);
    Words words[9];
    const auto word = [&](std::size_t i) GEMMULE_LAMBDA -> VI32& { return words[i / 4][i % 4]; };
    Unroll<8>([&](auto i) GEMMULE_LAMBDA {
      constexpr std::size_t kLast = (18 * i + 17) / 16;  // the words this block needs, and those before it had not
      constexpr std::size_t kFirst = i == 0 ? 0 : (18 * i - 1) / 16 + 1;
      ahead.template Ask<i>();
      Unroll<kLast + 1 - kFirst>(
          [&](auto j) GEMMULE_LAMBDA { LoadWords(first_ + block * sizeof(B) + 16 * (kFirst + j), words[kFirst + j]); });
      constexpr std::size_t kWord = 18 * i / 4;
      const VI32 scale = word(kWord);
      hn::Store(i % 2 == 0 ? LowHalf(scale) : HighHalf(scale), PF32(), panel.scales[g + i][0]);
      Words own;
      Unroll<4>([&](auto j) GEMMULE_LAMBDA {
        if constexpr (i % 2 != 0) {
          own[j] = word(kWord + 1 + j);
        } else {
          const hn::Repartition<std::uint16_t, I32> d16;
          const hn::Repartition<std::uint32_t, I32> d32;
          const auto swapped = hn::OddEven(hn::BitCast(d16, word(kWord + j)), hn::BitCast(d16, word(kWord + 1 + j)));
          own[j] = hn::BitCast(I32(), hn::RotateRight<16>(hn::BitCast(d32, swapped)));
        }
      });
      Nibbles(own, g + i, codes);
    });
  }

  template <class Codes>
  HWY_INLINE void OneBlock(std::size_t block, std::size_t g, const Codes& codes) const {
    if constexpr (kPerBlock == 1) Ahead<1, 1>(*this, block).template Ask<0>();
    if constexpr (kEncoding == Encoding::kQ8_0) {
      Unroll<2>([&](auto half) GEMMULE_LAMBDA {
        Words words;
        Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.codes + 16 * half; }, words);
        FourQuads four;
        Unroll<4>([&](auto i) GEMMULE_LAMBDA { four[i] = OffsetBytes(hn::BitCast(U8(), words[i])); });
        codes(g, half, four);
      });
    } else if constexpr (kEncoding == Encoding::kQ5_0 || kEncoding == Encoding::kQ5_1) {
      HWY_ALIGN std::int32_t bits[kPanelRows];
      for (std::size_t r = 0; r < kPanelRows; ++r) std::memcpy(bits + r, At(r, block).high_bits, sizeof bits[r]);
      Words words;
      Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.low_bits; }, words);
      Nibbles(words, g, [&](std::size_t group, auto half, FourQuads& four) GEMMULE_LAMBDA {
        Unroll<4>([&](auto i) GEMMULE_LAMBDA {
          four[i] = hn::Or(four[i], SpreadBits(hn::ShiftRight<16 * half + 4 * i>(hn::Load(I32(), bits))));
        });
        codes(group, half, four);
      });
    } else if constexpr (kPerBlock == 1) {
      Words words;
      Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.codes; }, words);
      Nibbles(words, g, codes);
    } else {
      const Ahead<1, 8> ahead(*this, block);
      Unroll<2>([&](auto half) GEMMULE_LAMBDA { HalfOfSuperblock(block, g, half, ahead, codes); });
    }
  }

  // Elements 16 kHalf ... 16 kHalf + 15 of a superblock's groups.
  template <std::size_t kHalf, class Codes>
  HWY_INLINE void HalfOfSuperblock(std::size_t block, std::size_t g, std::integral_constant<std::size_t, kHalf> half,
                                   const Ahead<1, 8>& ahead, const Codes& codes) const {
    constexpr std::size_t kAt = 16 * kHalf;
    Words high;
    if constexpr (kEncoding == Encoding::kQ5_K) {
      Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.high_bits + kAt; }, high);
    }
    Unroll<4>([&](auto p) GEMMULE_LAMBDA {  // 32 bytes of low bits serve two groups
      ahead.template Ask<4 * kHalf + p>();
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
      // Two conditions: in one that depends on p, Clang looks for other blocks' high bits.
      if constexpr (kEncoding == Encoding::kQ6_K) {
        if constexpr (p % 2 == 0) {
          Load(block, [&](const B& b) GEMMULE_LAMBDA { return b.high_bits + p / 2 * kGroup + kAt; }, high);
        }
      }
      Unroll<2>([&](auto upper) GEMMULE_LAMBDA {
        constexpr std::size_t kI = kEncoding == Encoding::kQ6_K ? p / 2 * 4 + p % 2 + 2 * upper : 2 * p + upper;
        FourQuads four;
        [[maybe_unused]] FourQuads more;
        Bits<4 * upper>(low, 15, four);
        if constexpr (kEncoding == Encoding::kQ5_K) {
          Bits<static_cast<int>(kI) - 4>(high, 16, more);
          Or(more, four);
        } else if constexpr (kEncoding == Encoding::kQ6_K) {
          Bits<2 * static_cast<int>(kI % 4) - 4>(high, 48, more);
          Or(more, four);
        }
        codes(g + kI, half, four);
      });
    });
  }

  // out(b, floats): the float16 that field(block) is, of every row, for n blocks. All are moved before the first is
  // converted: a load right behind the small stores would wait for them.
  template <class Field, class Out>
  HWY_INLINE void Halves(std::size_t block, std::size_t n, const Field& field, const Out& out) const {
    const hn::Rebind<std::uint16_t, PF32> d16;
    HWY_ALIGN std::uint16_t bits[kPanelGroups][kPanelRows];
    for (std::size_t b = 0; b < n; ++b) {
      for (std::size_t r = 0; r < kPanelRows; ++r) bits[b][r] = field(At(r, block + b)).Bits();
    }
    for (std::size_t b = 0; b < n; ++b) {
      out(b, FromHalfBits(PF32(), hn::Load(d16, bits[b])));
    }
  }

  // Of n blocks, as those of groups `at` ... of the panel.
  HWY_INLINE void Scales(std::size_t block, std::size_t n, std::size_t at, PanelScales& panel) const {
    if constexpr (kEncoding == Encoding::kG4) {
      for (std::size_t g = 0; g < n; ++g) {
        for (std::size_t r = 0; r < kPanelRows; ++r) panel.scales[at + g][0][r] = scales_[r].At(block + g);
      }
    } else if constexpr (kPerBlock == 1) {
      Halves(
          block, n, [](const B& b) GEMMULE_LAMBDA { return b.scale; },
          [&](std::size_t g, VPF32 v) GEMMULE_LAMBDA { hn::Store(v, PF32(), panel.scales[at + g][0]); });
      if constexpr (HasMin(kEncoding)) {
        Halves(
            block, n, [](const B& b) GEMMULE_LAMBDA { return b.min; },
            [&](std::size_t g, VPF32 v) GEMMULE_LAMBDA { hn::Store(v, PF32(), panel.minima[at + g]); });
      }
    } else if constexpr (kEncoding == Encoding::kQ6_K) {
      Halves(
          block, n, [](const B& b) GEMMULE_LAMBDA { return b.scale; },
          [&](std::size_t b, VPF32 v) GEMMULE_LAMBDA {
            Words w;
            Load(block + b, [](const B& of) GEMMULE_LAMBDA { return of.scales; }, w);
            Unroll<16>([&](auto i) GEMMULE_LAMBDA {
              const VI32 code = hn::ShiftRight<24>(hn::ShiftLeft<24 - i % 4 * 8>(w[i / 4]));
              hn::Store(hn::Mul(hn::ConvertTo(PF32(), code), v), PF32(), panel.scales[at + 8 * b + i / 2][i % 2]);
            });
          });
    } else {
      for (std::size_t b = 0; b < n; ++b) {
        Words w;  // scale and min, then those of the groups, six bits each (quant/k_scales.h)
        Load(block + b, [](const B& of) GEMMULE_LAMBDA { return &of.scale; }, w);
        const VU8 six[4] = {hn::BitCast(U8(), w[0]), hn::BitCast(U8(), w[1]), hn::BitCast(U8(), w[2]),
                            hn::BitCast(U8(), w[3])};
        const VU8 scales[2] = {ShiftAndMask<0>(six[1], 63),
                               hn::Or(ShiftAndMask<0>(six[3], 15), ShiftAndMask<2>(six[1], 48))};
        const VU8 minima[2] = {ShiftAndMask<0>(six[2], 63),
                               hn::Or(ShiftAndMask<4>(six[3], 15), ShiftAndMask<2>(six[2], 48))};
        const VPF32 scale = LowHalf(w[0]);
        const VPF32 min = hn::Neg(HighHalf(w[0]));
        Unroll<8>([&](auto i) GEMMULE_LAMBDA {
          const auto part = [&](VU8 v) GEMMULE_LAMBDA {
            return hn::ConvertTo(PF32(), hn::And(hn::ShiftRight<i % 4 * 8>(hn::BitCast(I32(), v)), hn::Set(I32(), 63)));
          };
          hn::Store(hn::Mul(part(scales[i / 4]), scale), PF32(), panel.scales[at + 8 * b + i][0]);
          hn::Store(hn::Mul(part(minima[i / 4]), min), PF32(), panel.minima[at + 8 * b + i]);
        });
      }
    }
  }

  const std::byte* first_;  // row
  std::size_t stride_;      // bytes from row to row
  ScaleView scales_[kPanelRows];
};

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_BLOCK_PANEL_INL_H_
