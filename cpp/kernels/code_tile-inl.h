// Rows of 2-, 4- or 8-bit codes times a tile of activations: multiplied as they are unpacked, for a few tokens, which
// do not pay for a panel.

#if defined(GEMMULE_KERNELS_CODE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_CODE_TILE_INL_H_
#undef GEMMULE_KERNELS_CODE_TILE_INL_H_
#else
#define GEMMULE_KERNELS_CODE_TILE_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/code_panel-inl.h"
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

// Where sums of products have 32 bits and 32 registers hold those of a tile by two vectors of rows.
constexpr bool kHasCodeTiles = GEMMULE_HAVE_VNNI;
constexpr std::size_t kTileRows = 2 * kWordLanes;

// Sums of kVectors vectors of rows from `row` on, the rows from `end` on being the last one again, by the first tile of
// x: [tile row][kPanelRows].
template <Encoding kEncoding, std::size_t kVectors>
HWY_INLINE void TileSumsBy(const MatrixView& w, std::size_t row, std::size_t end, const Int8Rows& x,
                           std::int32_t* HWY_RESTRICT sums) {
  using Codes = CodesOf<kEncoding>;
  using Products = typename Codes::Products;
  constexpr std::size_t kPlanes = Channelwise<kEncoding>::kPerByte;
  constexpr std::size_t kRows = kVectors * kWordLanes;
  constexpr std::size_t kStep = 16;    // bytes of a row
  constexpr std::size_t kAhead = 256;  // bytes, asked for a second time (docs/decisions/0023)
  const hn::Full128<std::int32_t> d128;
  const hn::Full128<std::uint8_t> d8;
  const std::uint8_t* rows[kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    rows[r] = reinterpret_cast<const std::uint8_t*>(w.Row(HWY_MIN(row + r, end - 1)));
  }
  const auto* next_rows = reinterpret_cast<const std::uint8_t*>(w.Row(row + kRows));
  const std::int8_t* HWY_RESTRICT codes_of_x = x.Row(0);
  const std::size_t row_bytes = w.RowBytes();
  typename Products::Sum sum[Int8Rows::kTile][kVectors];
  Unroll<Int8Rows::kTile>(
      [&](auto t) GEMMULE_LAMBDA { Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA { sum[t][v] = Products::Zero(); }); });
  const auto step = [&](const auto& load) GEMMULE_LAMBDA {
    VI32 words[kVectors][4];
    Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA {
      TransposeWords([&](std::size_t r) GEMMULE_LAMBDA { return hn::BitCast(d128, load(rows[v * kWordLanes + r])); },
                     words[v]);
    });
    Unroll<4>([&](auto word) GEMMULE_LAMBDA {
      Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
        VU8 codes[kVectors];
        Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA {
          codes[v] = Codes::template Plane<plane()>(hn::BitCast(U8(), words[v][word]));
        });
        Unroll<Int8Rows::kTile>([&](auto t) GEMMULE_LAMBDA {
          constexpr std::size_t kAt = ((word() * kPlanes + plane()) * Int8Rows::kTile + t()) * Int8Rows::kWord;
          std::int32_t four;
          std::memcpy(&four, codes_of_x + kAt, sizeof four);
          const VI8 all = hn::BitCast(I8(), hn::Set(I32(), four));
          Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA { sum[t][v] = Products::Add(codes[v], all, sum[t][v]); });
        });
      });
    });
    codes_of_x += 4 * kPlanes * Int8Rows::kTile * Int8Rows::kWord;
  };
  std::size_t b = 0;
  for (; b + kStep <= row_bytes; b += kStep) {
    for (std::size_t i = 0; i < kRows * kStep; i += kLine) hwy::Prefetch(next_rows + b * kRows + i);
    constexpr std::size_t kQuarter = kRows * kStep / kLine;  // rows, so that each is asked for once a line
    const std::size_t first = b % kLine / kStep * kQuarter;
    for (std::size_t r = first; r < first + kQuarter; ++r) hwy::Prefetch(rows[r] + b + kAhead);
    step([&](const std::uint8_t* p) GEMMULE_LAMBDA { return hn::LoadU(d8, p + b); });
  }
  if (b < row_bytes) {
    step([&](const std::uint8_t* p) GEMMULE_LAMBDA { return hn::LoadN(d8, p + b, row_bytes - b); });
  }
  Unroll<Int8Rows::kTile>([&](auto t) GEMMULE_LAMBDA {
    Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA {
      hn::Store(Products::Widen(sum[t][v]), I32(), sums + t * kPanelRows + v * kWordLanes);
    });
  });
}

// Sums of rows [row, row + count), count <= kTileRows, by x of one tile: [tile row][kPanelRows].
template <Encoding kEncoding>
HWY_INLINE void TileSums(const MatrixView& w, std::size_t row, std::size_t count, const Int8Rows& x,
                         std::int32_t* HWY_RESTRICT sums) {
  if (count > kWordLanes) {
    TileSumsBy<kEncoding, 2>(w, row, row + count, x, sums);
  } else {
    TileSumsBy<kEncoding, 1>(w, row, row + count, x, sums);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_CODE_TILE_INL_H_
