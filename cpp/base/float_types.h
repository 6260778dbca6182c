// The two 16-bit floats as bits, converted in plain C++.
#pragma once

#include <bit>
#include <cstdint>

namespace gemmule {

// bfloat16: the upper half of a float32.
inline float FloatFromBf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// To the nearest bfloat16, ties to even. A NaN stays one.
inline std::uint16_t Bf16FromFloat(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if (x != x) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// IEEE binary16. The exponent is rebiased by a multiplication, which also makes subnormals come out right.
inline float FloatFromF16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t rest = std::uint32_t{bits & 0x7FFFu} << 13;
  const std::uint32_t magnitude = (bits & 0x7C00u) == 0x7C00u
                                      ? rest | 0x7F800000u  // Inf, NaN
                                      : std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) * 0x1p112f);
  return std::bit_cast<float>(sign | magnitude);
}

}  // namespace gemmule
