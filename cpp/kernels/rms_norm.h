#pragma once

#include <span>

namespace gemmule {

// y = x / sqrt(mean(x^2) + eps) * weight, for one row.
//
//   x       (n,)  f32, n >= 1; n is D for the stream, E for a head
//   weight  (n,)  f32, used as stored: Gemma 4 does not add 1; empty: no weight
//   y       (n,)  f32; may be x itself, else must not overlap it
//
// Error: |y - ref| <= 2^-20 |ref| for n <= 16384, ref in double.
// Single-threaded, allocates nothing.
void RmsNorm(std::span<const float> x, std::span<const float> weight, float eps, std::span<float> y) noexcept;

}  // namespace gemmule
