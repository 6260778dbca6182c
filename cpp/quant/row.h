// One stored row, decoded or encoded element by element in plain C++: for embedding rows and the KV cache.
#pragma once

#include <cstddef>
#include <span>

#include "quant/encoding.h"
#include "quant/scale_view.h"

namespace gemmule {

// out[i] = element i. Codes and g4: times scale number i * scales.count / n; the others have no scales of their own.
//
//   row     RowBytes(encoding, n) bytes
//   scales  a divisor of n for codes, n / 32 for g4, none for the others
void DecodeRow(Encoding encoding, std::span<const std::byte> row, const ScaleView& scales, std::span<float> out);

// The row that stands for x: floats rounded to nearest even, codes clamp(round_half_even(x / scale)).
// kF32, kBF16, kC8 and kC4 only. A scale of 0 gives codes of 0.
void EncodeRow(Encoding encoding, std::span<const float> x, float scale, std::byte* row);

}  // namespace gemmule
