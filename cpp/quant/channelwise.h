// Channel-wise codes of 2, 4 or 8 bits: value = code * scale of the row.
//
//   4 bits  byte b: element 2b in bits 0-3, 2b+1 in bits 4-7, stored as code + 8, code -8 ... 7
//   2 bits  byte b: elements 4b ... 4b+3 in bit pairs from the lowest, stored as code + 2, code -2 ... 1
//   8 bits  the code as a signed byte; kU8: stored as code + 128
//
// Source: spec of the format "wNa8o8", section packing; transformers integrations/gemma_quant.py writes the same. The
// words of compressed-tensors (compressors/pack_quantized/helpers.py) have these bytes too, 8 bits as kU8.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/encoding.h"

namespace gemmule {

template <Encoding kEncoding>
struct Channelwise {
  static_assert(IsCoded(kEncoding));
  static constexpr std::size_t kPerByte = BlockElements(kEncoding);  // also the number of planes
  static constexpr std::size_t kBits = 8 / kPerByte;
  static constexpr std::int32_t kOffset = kEncoding == Encoding::kC8 ? 0 : 1 << (kBits - 1);
  static constexpr std::uint8_t kMask = static_cast<std::uint8_t>((1u << kBits) - 1);
  static constexpr std::int32_t kMin = -(1 << (kBits - 1));
  static constexpr std::int32_t kMax = (1 << (kBits - 1)) - 1;

  static std::int32_t Code(const std::byte* row, std::size_t i) {
    const auto byte = static_cast<std::uint8_t>(row[i / kPerByte]);
    if constexpr (kOffset == 0) return static_cast<std::int8_t>(byte);
    return static_cast<std::int32_t>((byte >> (i % kPerByte * kBits)) & kMask) - kOffset;
  }
};

// Codes of `bits` bits that a group of weights may have; kG4's are those of kC4.
struct CodeRange {
  int bits;
  float min;
  float max;
};
constexpr CodeRange RangeOf(Encoding encoding) {
  const int bits = encoding == Encoding::kG4 ? 4 : static_cast<int>(8 / BlockElements(encoding));
  return {bits, -static_cast<float>(1 << (bits - 1)), static_cast<float>((1 << (bits - 1)) - 1)};
}

}  // namespace gemmule
