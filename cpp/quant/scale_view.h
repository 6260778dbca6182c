// Scales that lie in a tensor of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/float_types.h"
#include "quant/encoding.h"

namespace gemmule {

// Float number i of those at `bytes`, which may have any alignment. kF32, kF16 and kBF16 only.
inline float FloatAt(Encoding encoding, const std::byte* bytes, std::size_t i) {
  if (encoding == Encoding::kF32) {
    float value;
    std::memcpy(&value, bytes + i * sizeof value, sizeof value);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, bytes + i * sizeof bits, sizeof bits);
  return encoding == Encoding::kBF16 ? FloatFromBf16(bits) : FloatFromF16(bits);
}

struct ScaleView {
  const std::byte* data = nullptr;  // any alignment; null where there are no scales
  std::size_t count = 0;
  Encoding encoding = Encoding::kF32;  // or kF16, kBF16

  float At(std::size_t i) const { return FloatAt(encoding, data, i); }
  ScaleView From(std::size_t first, std::size_t n) const {
    return {data + gemmule::RowBytes(encoding, first), n, encoding};
  }
};

}  // namespace gemmule
