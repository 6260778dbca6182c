// How the elements of a stored matrix's row are written. A row is always a whole number of bytes.
#pragma once

#include <cstddef>
#include <string_view>

namespace gemmule {

enum class Encoding {
  kF32,
  kF16,
  kBF16,
  // Integers with one scale a row ("channel-wise"), two's complement or offset-binary; see quant/channelwise.h.
  kC2,
  kC4,
  kC8,
};

constexpr std::size_t Bits(Encoding encoding) {
  switch (encoding) {
    case Encoding::kF32: return 32;
    case Encoding::kF16:
    case Encoding::kBF16: return 16;
    case Encoding::kC8: return 8;
    case Encoding::kC4: return 4;
    case Encoding::kC2: return 2;
  }
  return 0;
}

constexpr bool IsCoded(Encoding encoding) { return Bits(encoding) <= 8; }

constexpr std::size_t RowBytes(Encoding encoding, std::size_t n) { return n * Bits(encoding) / 8; }

constexpr std::string_view Name(Encoding encoding) {
  switch (encoding) {
    case Encoding::kF32: return "f32";
    case Encoding::kF16: return "f16";
    case Encoding::kBF16: return "bf16";
    case Encoding::kC8: return "c8";
    case Encoding::kC4: return "c4";
    case Encoding::kC2: return "c2";
  }
  return "?";
}

}  // namespace gemmule
