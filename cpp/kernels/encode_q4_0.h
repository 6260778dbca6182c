// Float weights to blocks of Q4_0, by one of two rules for a block's scale.
#pragma once

#include <cstddef>
#include <span>

#include "quant/encode_counts.h"
#include "quant/encoding.h"

namespace gemmule {

enum class Grid {
  // llama.cpp's, bit for bit: the element that is largest in magnitude, the first of equals, has code -8.
  kLlama,
  // A scale whose products with the codes, rounded to the type that the weights were widened from, are the weights; of
  // several the one with the least squared error. Where there is none, the scale and the codes that minimise the
  // squared error. How: kernels/q4_0_grid-inl.h, q4_0_least_squares-inl.h; why and how well: docs/decisions/0016.
  kRecover,
};

// One row.
//
//   source  kF32, kF16 or kBF16: what x was widened from
//   x       (K,), K % 32 == 0, finite; of others the result means nothing
//   out     K / 32 blocks, any alignment
//
// The bits are the same on all targets with fused multiply-add; kLlama's on all targets. Allocates nothing.
void EncodeQ4_0(Grid grid, Encoding source, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept;

}  // namespace gemmule
