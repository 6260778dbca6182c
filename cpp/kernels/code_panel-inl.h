// Rows of 2-, 4- or 8-bit codes times many rows of activations: as fast as products can be made.
//
// A panel is a part of many weight rows, unpacked once: a word of four codes of each row, row after row, fills some
// vectors. A word of activations, set in all lanes, meets them all; each lane keeps the sum of its own row.

#if defined(GEMMULE_KERNELS_CODE_PANEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_CODE_PANEL_INL_H_
#undef GEMMULE_KERNELS_CODE_PANEL_INL_H_
#else
#define GEMMULE_KERNELS_CODE_PANEL_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/code_rows-inl.h"
#include "kernels/dot-inl.h"
#include "kernels/int8_rows.h"
#include "kernels/lanes-inl.h"
#include "kernels/transpose-inl.h"
#include "quant/channelwise.h"
#include "quant/matrix.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

constexpr std::size_t kWordLanes = kByteLanes / Int8Rows::kWord;  // rows that fill a vector with words
// A panel's vectors, and the rows of activations that meet them at a time: their sums stay in the registers, 32 or 16.
constexpr std::size_t kPanelVectors = kByteLanes == 64 ? 3 : 2;
constexpr std::size_t kRowsAtOnce = kByteLanes == 64 || HWY_ARCH_ARM ? 8 : 4;
constexpr std::size_t kPanelRows = kPanelVectors * kWordLanes;
constexpr std::size_t kLine = 64;         // bytes of the cache
constexpr std::size_t kPanelWords = 128;  // of a row: 24 KiB on AVX-512, half of the first-level cache

// Bytes [b, b_end) of kVectors vectors of rows into `panel`: [word][plane][kVectors][lane][4]. The last word is filled
// up to 16 bytes with zeros.
template <Encoding kEncoding, std::size_t kVectors>
HWY_INLINE void UnpackPanel(const std::uint8_t* const* rows, std::size_t b, std::size_t b_end,
                            std::uint8_t* HWY_RESTRICT panel) {
  constexpr std::size_t kPlanes = Channelwise<kEncoding>::kPerByte;
  const hn::Full128<std::int32_t> d128;
  const hn::Full128<std::uint8_t> d8;
  for (std::size_t v = 0; v < kVectors; ++v) {
    std::uint8_t* HWY_RESTRICT to = panel + v * kByteLanes;
    const auto unpack = [&](std::size_t at, const auto& load) GEMMULE_LAMBDA {
      VI32 words[4];
      TransposeWords(
          [&](std::size_t r) GEMMULE_LAMBDA { return hn::BitCast(d128, load(rows[v * kWordLanes + r] + at)); }, words);
      Unroll<4>([&](auto word) GEMMULE_LAMBDA {
        Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
          const VU8 codes = CodesOf<kEncoding>::template Plane<plane()>(hn::BitCast(U8(), words[word]));
          hn::Store(codes, U8(), to + (word * kPlanes + plane) * kVectors * kByteLanes);
        });
      });
      to += 4 * kPlanes * kVectors * kByteLanes;
    };
    std::size_t at = b;
    for (; at + 16 <= b_end; at += 16)
      unpack(at, [&](const std::uint8_t* p) GEMMULE_LAMBDA { return hn::LoadU(d8, p); });
    if (at < b_end) unpack(at, [&](const std::uint8_t* p) GEMMULE_LAMBDA { return hn::LoadN(d8, p, b_end - at); });
  }
}

// Adds the products of `words` words of a panel with kRowsAtOnce rows of a tile to sums[kRowsAtOnce][kPanelRows].
// Meanwhile as many bytes as the panel was unpacked from are read into the second-level cache from `next` on: all at
// once they would hold up the loads that follow.
template <std::size_t kBits, std::size_t kVectors>
HWY_INLINE void AddRowsOfTile(const std::uint8_t* HWY_RESTRICT panel, const std::int8_t* HWY_RESTRICT x,
                              std::size_t words, const std::uint8_t* next, std::int32_t* HWY_RESTRICT sums) {
  constexpr std::size_t kNextBytes = kVectors * kByteLanes * kBits / 8;  // for each word
  using Products = CodeProducts<kBits>;
  constexpr std::size_t kWord = Int8Rows::kWord;
  while (words > 0) {
    typename Products::Sum sum[kRowsAtOnce][kVectors];
    Unroll<kRowsAtOnce>(
        [&](auto t) GEMMULE_LAMBDA { Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA { sum[t][v] = Products::Zero(); }); });
    const std::size_t run = HWY_MIN(words, Products::kRoom);
    words -= run;
    for (std::size_t i = 0; i < run; ++i, panel += kVectors * kByteLanes, x += Int8Rows::kTile * kWord) {
      Unroll<(kNextBytes + kLine - 1) / kLine>([&](auto line)
                                                   GEMMULE_LAMBDA { __builtin_prefetch(next + line * kLine, 0, 2); });
      next += kNextBytes;
      VU8 codes[kVectors];
      Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA { codes[v] = hn::Load(U8(), panel + v * kByteLanes); });
      Unroll<kRowsAtOnce>([&](auto t) GEMMULE_LAMBDA {
        std::int32_t word;
        std::memcpy(&word, x + t * kWord, kWord);
        const VI8 all = hn::BitCast(I8(), hn::Set(I32(), word));
        Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA { sum[t][v] = Products::Add(codes[v], all, sum[t][v]); });
      });
    }
    Unroll<kRowsAtOnce>([&](auto t) GEMMULE_LAMBDA {
      Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA {
        std::int32_t* to = sums + t * kPanelRows + v * kWordLanes;
        hn::Store(hn::Add(hn::Load(I32(), to), Products::Widen(sum[t][v])), I32(), to);
      });
    });
  }
}

template <Encoding kEncoding, std::size_t kVectors>
HWY_INLINE void PanelSumsBy(const MatrixView& w, std::size_t row, std::size_t count, const Int8Rows& x,
                            std::size_t first, std::size_t last, std::int32_t* HWY_RESTRICT sums) {
  using C = Channelwise<kEncoding>;
  constexpr std::size_t kBytes = kPanelWords / C::kPerByte * Int8Rows::kWord;  // of a row
  HWY_ALIGN std::uint8_t panel[kPanelWords * kVectors * kByteLanes];
  const std::uint8_t* rows[kVectors * kWordLanes];
  for (std::size_t i = 0; i < kVectors * kWordLanes; ++i) {
    rows[i] = reinterpret_cast<const std::uint8_t*>(w.Row(row + HWY_MIN(i, count - 1)));
  }
  const auto* next_rows = reinterpret_cast<const std::uint8_t*>(w.Row(row + count));
  const std::size_t row_bytes = w.RowBytes();
  for (std::size_t b = 0; b < row_bytes; b += kBytes) {
    const std::size_t b_end = HWY_MIN(row_bytes, b + kBytes);
    UnpackPanel<kEncoding, kVectors>(rows, b, b_end, panel);
    // What comes next was asked for a panel ago, but a processor drops such requests when it has too many.
    for (const std::uint8_t* of : rows) {
      for (std::size_t at = 0; at < kBytes; at += kLine) hwy::Prefetch(of + b + kBytes + at);
    }
    const std::size_t words = RoundUp(b_end - b, 16) / Int8Rows::kWord * C::kPerByte;
    for (std::size_t i = first; i < last; i += kRowsAtOnce) {
      AddRowsOfTile<C::kBits, kVectors>(panel, x.Row(i) + b / Int8Rows::kWord * x.word_step(), words,
                                        next_rows + b * kVectors * kWordLanes, sums + (i - first) * kPanelRows);
    }
  }
}

// Sums of rows [row, row + count), count <= kPanelRows, by rows [first, last) of x, first a multiple of kTile:
// [last - first, to whole tiles][kPanelRows].
template <Encoding kEncoding>
HWY_INLINE void PanelSums(const MatrixView& w, std::size_t row, std::size_t count, const Int8Rows& x, std::size_t first,
                          std::size_t last, std::int32_t* HWY_RESTRICT sums) {
  std::memset(sums, 0, RoundUp(last - first, Int8Rows::kTile) * kPanelRows * sizeof *sums);
  Unroll<kPanelVectors>([&](auto less) {
    constexpr std::size_t kVectors = less() + 1;
    const std::size_t vectors = (count + kWordLanes - 1) / kWordLanes;
    if (vectors == kVectors) PanelSumsBy<kEncoding, kVectors>(w, row, count, x, first, last, sums);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_CODE_PANEL_INL_H_
