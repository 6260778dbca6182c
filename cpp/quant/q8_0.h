// Q8_0: 32 elements, value = code * scale.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/block.h"

namespace gemmule {

template <>
struct Block<Encoding::kQ8_0> {
  static constexpr int kLowest = -128;
  static constexpr int kHighest = 127;

  StoredF16 scale;
  std::int8_t codes[32];

  int Code(std::size_t i) const { return codes[i]; }

  void Decode(float* out) const {
    for (std::size_t j = 0; j < kGroup; ++j) out[j] = static_cast<float>(Code(j)) * scale.Value();
  }
};
static_assert(sizeof(Block<Encoding::kQ8_0>) == BlockBytes(Encoding::kQ8_0));

}  // namespace gemmule
