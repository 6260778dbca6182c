#pragma once

#include <cstddef>

#include "quant/matrix.h"

namespace gemmule {

// y[t][row] = row scale * sum over i of w[row][i] * x[t][i], products in float32, for rows [row_begin, row_end).
//
//   w         (rows, K)  any encoding; K % Planes(encoding) == 0
//   x         (T, x_stride) f32 in step order (kernels/steps.h), x_stride >= StepFloats(encoding, K)
//   y         (T, y_stride) f32; only columns [row_begin, row_end) are written
//
// Error: 2^-23 (K / 16 + 6) * sum |terms|. Each (t, row) is summed in an order of its own, whatever T is.
// Single-threaded, allocates nothing.
void MatmulF32(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const float* x, std::size_t tokens,
               std::size_t x_stride, float* y, std::size_t y_stride) noexcept;

}  // namespace gemmule
