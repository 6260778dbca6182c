// Float weights to blocks of Q8_0.
#pragma once

#include <cstddef>
#include <span>

#include "quant/encode_counts.h"
#include "quant/encoding.h"

namespace gemmule {

// One row, by llama.cpp's rule, bit for bit: scale = max|x| / 127, code = x / scale rounded to the nearest, halves away
// from zero, before the scale is rounded to float16. Arguments as of EncodeQ4_0.
void EncodeQ8_0(Encoding source, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept;

}  // namespace gemmule
