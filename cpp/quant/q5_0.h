// Q5_0: 32 elements, value = (code - 16) * scale.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/block.h"

namespace gemmule {

template <>
struct Block<Encoding::kQ5_0> {
  static constexpr int kLowest = -16;
  static constexpr int kHighest = 15;

  StoredF16 scale;
  std::uint8_t high_bits[4];  // bit j, counted from the lowest of the first byte: bit 4 of element j
  std::uint8_t low_bits[16];  // low four bits of byte j: element j; high: element j + 16

  int Code(std::size_t i) const {
    return (NibbleOfHalves(low_bits, i) | ((high_bits[i / 8] >> (i % 8)) & 1) << 4) - 16;
  }

  void Decode(float* out) const {
    for (std::size_t j = 0; j < kGroup; ++j) out[j] = static_cast<float>(Code(j)) * scale.Value();
  }
};
static_assert(sizeof(Block<Encoding::kQ5_0>) == BlockBytes(Encoding::kQ5_0));

}  // namespace gemmule
