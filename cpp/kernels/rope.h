#pragma once

#include <span>

namespace gemmule {

// Rotates one head in place: element j pairs with element j + E/2,
//   x[j]       = x[j] cos[j] - x[j + E/2] sin[j]
//   x[j + E/2] = x[j + E/2] cos[j] + x[j] sin[j]
//
//   x         (E,)    f32, E even
//   cos, sin  (E/2,)  f32, of this position's angles
//
// Single-threaded, allocates nothing.
void Rope(std::span<const float> cos, std::span<const float> sin, std::span<float> x) noexcept;

}  // namespace gemmule
