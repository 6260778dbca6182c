// Q4_1: 32 elements, value = code * scale + min.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/block.h"

namespace gemmule {

template <>
struct Block<Encoding::kQ4_1> {
  static constexpr int kLowest = 0;
  static constexpr int kHighest = 15;

  StoredF16 scale;
  StoredF16 min;
  std::uint8_t codes[16];  // low four bits of byte j: element j; high: element j + 16

  int Code(std::size_t i) const { return NibbleOfHalves(codes, i); }

  void Decode(float* out) const {
    for (std::size_t j = 0; j < kGroup; ++j) {
      out[j] = static_cast<float>(Code(j)) * scale.Value() + min.Value();
    }
  }
};
static_assert(sizeof(Block<Encoding::kQ4_1>) == BlockBytes(Encoding::kQ4_1));

}  // namespace gemmule
