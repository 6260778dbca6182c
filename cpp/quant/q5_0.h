// Q5_0: 32 elements, value = (code - 16) * scale.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/block.h"

namespace gemmule {

template <>
struct Block<Encoding::kQ5_0> {
  StoredF16 scale;
  std::uint8_t high_bits[4];  // bit j, counted from the lowest of the first byte: bit 4 of element j
  std::uint8_t low_bits[16];  // low four bits of byte j: element j; high: element j + 16

  void Decode(float* out) const {
    for (std::size_t j = 0; j < kGroup; ++j) {
      const int code = NibbleOfHalves(low_bits, j) | ((high_bits[j / 8] >> (j % 8)) & 1) << 4;
      out[j] = static_cast<float>(code - 16) * scale.Value();
    }
  }
};
static_assert(sizeof(Block<Encoding::kQ5_0>) == BlockBytes(Encoding::kQ5_0));

}  // namespace gemmule
