// One stored row, decoded or encoded element by element in plain C++: for embedding rows and the KV cache.
#pragma once

#include <cstddef>
#include <span>

#include "quant/encoding.h"

namespace gemmule {

// out[i] = element i * scale of its block. Without scales (floats): the element itself. Block i * scales / n.
//
//   row     RowBytes(encoding, n) bytes
//   scales  (S,) f32 bytes of any alignment, n % S == 0; empty for floats
void DecodeRow(Encoding encoding, std::span<const std::byte> row, std::span<const std::byte> scales,
               std::span<float> out);

// The row that stands for x: floats rounded to nearest even, codes clamp(round_half_even(x / scale)).
// kF32, kBF16, kC8 and kC4 only. A scale of 0 gives codes of 0.
void EncodeRow(Encoding encoding, std::span<const float> x, float scale, std::byte* row);

}  // namespace gemmule
