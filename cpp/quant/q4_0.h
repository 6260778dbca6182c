// Q4_0: 32 elements, value = (code - 8) * scale.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/block.h"

namespace gemmule {

template <>
struct Block<Encoding::kQ4_0> {
  static constexpr int kLowest = -8;
  static constexpr int kHighest = 7;

  StoredF16 scale;
  std::uint8_t codes[16];  // low four bits of byte j: element j; high: element j + 16

  int Code(std::size_t i) const { return NibbleOfHalves(codes, i) - 8; }

  void Decode(float* out) const {
    for (std::size_t j = 0; j < kGroup; ++j) {
      out[j] = static_cast<float>(Code(j)) * scale.Value();
    }
  }
};
static_assert(sizeof(Block<Encoding::kQ4_0>) == BlockBytes(Encoding::kQ4_0));

}  // namespace gemmule
