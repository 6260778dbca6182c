#pragma once

#include <cstddef>

#include "kernels/int8_groups.h"
#include "quant/matrix.h"

namespace gemmule {

// y[t][row] = sum over groups g of x scale * (w scale * (integer sum over the group of code * x code) + min * sum of
// x codes), rows [row_begin, row_end).
//
//   w  (rows, K)       GGUF's blocks or g4, K a multiple of the block's elements
//   x  T rows of K     made for w's encoding (kernels/int8_groups.h)
//   y  (T, y_stride)   f32; only columns [row_begin, row_end) are written
//
// A group's products are summed exactly; the bracket is a product and at most one fused multiply-add, and one more adds
// it, times the x scale, to the sum of the groups before it (docs/decisions/0021). So the result is the same on every
// target with fused multiply-add and for every T. Single-threaded, allocates nothing; 70 KB of stack.
void MatmulBlocksI8(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Groups& x, float* y,
                    std::size_t y_stride) noexcept;

}  // namespace gemmule
