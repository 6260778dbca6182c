// Q6_K: 8 groups of 32 elements, value = (code - 32) * (scale * scale of 16 elements).
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/block.h"

namespace gemmule {

template <>
struct Block<Encoding::kQ6_K> {
  static constexpr int kLowest = -32;
  static constexpr int kHighest = 31;

  // Four groups, 128 elements, take 64 bytes of low_bits and 32 of high_bits. Group r of the four has its low four bits
  // in the low (r < 2) or high (r >= 2) half of the bytes from 32 (r % 2) on, and bits 4 and 5 in bits 2r, 2r + 1.
  std::uint8_t low_bits[128];
  std::uint8_t high_bits[64];
  std::int8_t scales[16];
  StoredF16 scale;

  int Code(std::size_t i) const { return Code(i / kGroup, i % kGroup); }
  // Of element j of group g.
  int Code(std::size_t g, std::size_t j) const {
    const std::size_t half = g / 4;
    const std::size_t r = g % 4;
    const int low = (low_bits[half * 64 + r % 2 * kGroup + j] >> (r / 2 * 4)) & 15;
    const int high = (high_bits[half * kGroup + j] >> (2 * r)) & 3;
    return (low | high << 4) - 32;
  }
  // codes (256,), -32 ... 31.
  void SetCodes(const std::int8_t* codes) {
    for (std::size_t half = 0; half < 2; ++half, codes += 128) {
      for (std::size_t j = 0; j < kGroup; ++j) {
        unsigned c[4];
        for (std::size_t r = 0; r < 4; ++r) c[r] = static_cast<unsigned>(codes[r * kGroup + j] + 32);
        low_bits[half * 64 + j] = static_cast<std::uint8_t>((c[0] & 15) | c[2] << 4);
        low_bits[half * 64 + kGroup + j] = static_cast<std::uint8_t>((c[1] & 15) | c[3] << 4);
        high_bits[half * kGroup + j] =
            static_cast<std::uint8_t>(c[0] >> 4 | c[1] >> 4 << 2 | c[2] >> 4 << 4 | c[3] >> 4 << 6);
      }
    }
  }

  void Decode(float* out) const {
    for (std::size_t g = 0; g < 8; ++g) {
      for (std::size_t j = 0; j < kGroup; ++j) {
        const std::size_t group = 2 * g + j / 16;
        const float d = scale.Value() * static_cast<float>(scales[group]);
        out[g * kGroup + j] = static_cast<float>(Code(g, j)) * d;
      }
    }
  }
};
static_assert(sizeof(Block<Encoding::kQ6_K>) == BlockBytes(Encoding::kQ6_K));

}  // namespace gemmule
