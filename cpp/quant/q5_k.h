// Q5_K: 8 groups of 32 elements, value = code * (scale * group scale) - min * group min.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/block.h"
#include "quant/k_scales.h"

namespace gemmule {

template <>
struct Block<Encoding::kQ5_K> {
  static constexpr int kLowest = 0;
  static constexpr int kHighest = 31;

  StoredF16 scale;
  StoredF16 min;
  KScales groups;
  std::uint8_t high_bits[32];  // bit g of byte j: bit 4 of element j of group g
  std::uint8_t low_bits[128];  // 32 bytes for two groups: low four bits for the even one, high for the odd one

  int Code(std::size_t i) const { return Code(i / kGroup, i % kGroup); }
  // Of element j of group g.
  int Code(std::size_t g, std::size_t j) const {
    return ((low_bits[g / 2 * kGroup + j] >> (g % 2 * 4)) & 15) | ((high_bits[j] >> g) & 1) << 4;
  }

  void Decode(float* out) const {
    const std::uint64_t scales = groups.Scales();
    const std::uint64_t minima = groups.Minima();
    for (std::size_t g = 0; g < 8; ++g) {
      const float d = scale.Value() * static_cast<float>((scales >> (8 * g)) & 63);
      const float m = min.Value() * static_cast<float>((minima >> (8 * g)) & 63);
      for (std::size_t j = 0; j < kGroup; ++j) out[g * kGroup + j] = static_cast<float>(Code(g, j)) * d - m;
    }
  }
};
static_assert(sizeof(Block<Encoding::kQ5_K>) == BlockBytes(Encoding::kQ5_K));

}  // namespace gemmule
