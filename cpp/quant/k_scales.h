// The 6-bit scales and minima of the eight groups in a block of Q4_K or Q5_K.
#pragma once

#include <bit>
#include <cstdint>

namespace gemmule {

struct KScales {
  // Bytes 0-3: low six bits: scales 0-3; 4-7: minima 0-3; their two high bits are those of number j + 4, whose low four
  // bits are in bytes 8-11: scales 4-7 in the low four bits, minima 4-7 in the high ones.
  std::uint8_t bytes[12];

  struct Words {
    std::uint32_t scales03, minima03, low;
  };
  // All eight as bytes, number 0 lowest.
  std::uint64_t Scales() const {
    const auto w = std::bit_cast<Words>(*this);
    return Eight(w.scales03, w.low);
  }
  std::uint64_t Minima() const {
    const auto w = std::bit_cast<Words>(*this);
    return Eight(w.minima03, w.low >> 4);
  }

 private:
  static std::uint64_t Eight(std::uint32_t six, std::uint32_t four) {
    const std::uint32_t upper = (four & 0x0F0F0F0Fu) | ((six >> 2) & 0x30303030u);
    return (six & 0x3F3F3F3Fu) | std::uint64_t{upper} << 32;
  }
};

}  // namespace gemmule
