// Activations as int8, laid out for rows of 2-, 4- or 8-bit codes, and their making.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/buffer.h"
#include "kernels/steps.h"
#include "quant/encoding.h"

namespace gemmule {

// T rows of `digits` int8 digits each. Plane p of a digit holds the elements that bits p of a row's bytes meet:
// code [b] of plane p stands for element b * Planes + p. Planes are padded with zeros to whole vectors.
struct Int8Rows {
  std::size_t tokens = 0;        // T
  std::size_t digits = 1;        // 1: x = scale * code. 2: x = scale * (256 * high + low), the digits in this order
  std::size_t plane_stride = 0;  // bytes from plane to plane
  std::size_t row_stride = 0;    // bytes from digit to digit: planes * plane_stride
  std::int8_t* codes = nullptr;  // [T][digits][planes][plane_stride]
  std::int32_t* sums = nullptr;  // [T][digits], sum of a digit's codes
  float* scales = nullptr;       // [T]
};

// Bytes of a plane for K elements: rounded up to the widest vector, which reads past the last code.
constexpr std::size_t PlaneStride(Encoding encoding, std::size_t k) { return RoundUp(k / Planes(encoding), 64); }

// code = clamp(round_half_even(x / scale), -128, 127) into one digit. x (K,), scale > 0, K % Planes == 0.
// `out` is the token's row_stride bytes, padding included; returns the sum of the codes.
std::int32_t QuantizeStatic(Encoding encoding, std::span<const float> x, float scale, std::int8_t* out) noexcept;

// x as two digits with the scale max|x| / 32639, so that every value keeps 16 bits: |x - scale * (256 high + low)| is
// at most scale / 2. `high` and `low` are row_stride bytes each; sums[0], sums[1] theirs. Returns the scale, 0 for all
// zeros.
float QuantizeTwoDigits(Encoding encoding, std::span<const float> x, std::int8_t* high, std::int8_t* low,
                        std::int32_t* sums) noexcept;

}  // namespace gemmule
