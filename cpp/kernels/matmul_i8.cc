#include "kernels/matmul_i8.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_i8.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/code_panel-inl.h"
#include "kernels/code_rows-inl.h"
#include "kernels/code_tile-inl.h"
#include "kernels/dot-inl.h"
#include "kernels/lanes-inl.h"
#include "quant/channelwise.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Rows of activations that meet an unpacked panel: their sums stay in the first-level cache.
constexpr std::size_t kMostRowsOfX = 64;

// Results of `count` <= kPanelRows rows from `row` on and tokens [t, t_end), from their integer sums:
// [digit row][kPanelRows].
template <Encoding kEncoding>
HWY_INLINE void WriteResults(const MatrixView& w, std::size_t row, std::size_t count, const Int8Rows& x, std::size_t t,
                             std::size_t t_end, const std::int32_t* HWY_RESTRICT sums, float* y, std::size_t y_stride) {
  constexpr std::int32_t kOffset = CodesOf<kEncoding>::kOffset;
  const F32 d;
  HWY_ALIGN float row_scales[kPanelRows] = {};
  for (std::size_t i = 0; i < count; ++i) row_scales[i] = w.RowScale(row + i);
  const auto exact = [&](std::size_t x_row, std::size_t i) GEMMULE_LAMBDA {
    const VI32 sum = hn::LoadU(I32(), sums + i);
    return hn::ConvertTo(d, hn::Sub(sum, hn::Set(I32(), kOffset * x.sums[x_row])));
  };
  for (; t < t_end; ++t, sums += x.digits * kPanelRows) {
    const VF32 scale = hn::Set(d, x.scales[t]);
    MapOver(count, y + t * y_stride + row, [&](std::size_t i, std::size_t) GEMMULE_LAMBDA {
      VF32 sum = exact(t * x.digits, i);
      if (x.digits == 2) sum = hn::MulAdd(hn::Set(d, 256.0f), sum, exact(t * 2 + 1, i + kPanelRows));
      return hn::Mul(sum, hn::Mul(scale, hn::Load(d, row_scales + i)));
    });
  }
}

// Whether x is one tile, and the target has a kernel for that.
HWY_INLINE bool MeetsATile(const Int8Rows& x) { return kHasCodeTiles && x.tile > 1 && x.rows() <= x.tile; }

// Integer sums of rows [row, row + count) by rows [first, last) of x: [row of x][kPanelRows].
template <Encoding kEncoding>
HWY_INLINE void Sums(const MatrixView& w, std::size_t row, std::size_t count, const Int8Rows& x, std::size_t first,
                     std::size_t last, std::int32_t* HWY_RESTRICT sums) {
  if (x.tile == 1) return RowSums<kEncoding>(w, row, count, x, kPanelRows, sums);
  if constexpr (kHasCodeTiles) {
    if (MeetsATile(x)) return TileSums<kEncoding>(w, row, count, x, sums);
  }
  PanelSums<kEncoding>(w, row, count, x, first, last, sums);
}

template <Encoding kEncoding>
void MatmulOf(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Rows& x, float* y,
              std::size_t y_stride) {
  HWY_ALIGN std::int32_t sums[kMostRowsOfX * kPanelRows];
  const std::size_t step = MeetsATile(x) ? kTileRows : kPanelRows;
  for (std::size_t row = row_begin; row < row_end; row += step) {
    const std::size_t count = HWY_MIN(step, row_end - row);
    for (std::size_t first = 0; first < x.rows(); first += kMostRowsOfX) {
      const std::size_t last = HWY_MIN(first + kMostRowsOfX, x.rows());
      Sums<kEncoding>(w, row, count, x, first, last, sums);
      WriteResults<kEncoding>(w, row, count, x, first / x.digits, last / x.digits, sums, y, y_stride);
    }
  }
}

void MatmulI8(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Rows& x, float* y,
              std::size_t y_stride) {
  switch (w.encoding) {
    case Encoding::kC2: return MatmulOf<Encoding::kC2>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kC4: return MatmulOf<Encoding::kC4>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kC8: return MatmulOf<Encoding::kC8>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kU8: return MatmulOf<Encoding::kU8>(w, row_begin, row_end, x, y, y_stride);
    default: HWY_DASSERT(false);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(MatmulI8);

void MatmulI8(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Rows& x, float* y,
              std::size_t y_stride) noexcept {
  HWY_DASSERT(row_end <= w.rows && x.planes == Planes(w.encoding) && x.planes * x.plane_codes >= w.cols);
  HWY_DASSERT(w.cols <= kMostExactColumns);
  HWY_DYNAMIC_DISPATCH(MatmulI8)(w, row_begin, row_end, x, y, y_stride);
}

}  // namespace gemmule
#endif  // HWY_ONCE
