#pragma once

#include <cstddef>

#include "kernels/int8_rows.h"
#include "quant/matrix.h"

namespace gemmule {

constexpr std::size_t kMostExactColumns = 65'536;  // 255 * 128 * K < 2^31

// y[t][row] = x scale * row scale * (integer sum over i of code[row][i] * x code[t][i]), rows [row_begin, row_end).
//
//   w  (rows, K)       c2, c4, c8 or u8, K % Planes == 0, K <= kMostExactColumns
//   x  T rows of K     made for w's encoding and K (kernels/int8_rows.h), one or two digits
//   y  (T, y_stride)   f32; only columns [row_begin, row_end) are written
//
// The sums are exact in int32; the result is rounded where they turn into floats, so it is the same on every target and
// for every T. Single-threaded, allocates nothing.
void MatmulI8(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Rows& x, float* y,
              std::size_t y_stride) noexcept;

}  // namespace gemmule
