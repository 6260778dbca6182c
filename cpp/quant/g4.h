// G4: 32 elements in 16 bytes, value = (code - 8) * scale, the scales in a tensor of their own.
// compressed-tensors calls it "pack-quantized" with 4 bits, symmetric, group size 32; its int32 words, little endian,
// are these bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/block.h"

namespace gemmule {

template <>
struct Block<Encoding::kG4> {
  std::uint8_t codes[16];  // low four bits of byte b: element 2b; high: element 2b + 1

  void Decode(float scale, float* out) const {
    for (std::size_t j = 0; j < kGroup; ++j)
      out[j] = static_cast<float>(((codes[j / 2] >> (j % 2 * 4)) & 15) - 8) * scale;
  }
};
static_assert(sizeof(Block<Encoding::kG4>) == BlockBytes(Encoding::kG4));

}  // namespace gemmule
