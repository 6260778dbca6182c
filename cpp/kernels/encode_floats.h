// Float weights to F32, F16 or BF16.
#pragma once

#include <cstddef>
#include <span>

#include "quant/encode_counts.h"
#include "quant/encoding.h"

namespace gemmule {

// One row, each element rounded to the nearest number of the target type, ties to even; beyond the largest infinity.
//
//   target  kF32, kF16 or kBF16
//   x       (K,); a NaN stays one
//   out     RowBytes(target, K) bytes, any alignment
void EncodeFloats(Encoding target, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept;

}  // namespace gemmule
