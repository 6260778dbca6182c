// What the encodings in blocks share. A block's struct is its layout in the file, little endian and without alignment;
// Decode is the plain twin of the kernels, and gives the same bits.
//
// Source of all layouts and of the order of operations: ggml (ggml-common.h, ggml-quants.c) and its Python package
// gguf.
#pragma once

#include <bit>
#include <cstdint>

#include "base/float_types.h"
#include "quant/encoding.h"

namespace gemmule {

static_assert(std::endian::native == std::endian::little);

// A float16 as the two bytes that it is in a file.
struct StoredF16 {
  std::uint8_t bytes[2];

  std::uint16_t Bits() const { return std::bit_cast<std::uint16_t>(*this); }
  float Value() const { return FloatFromF16(Bits()); }
};

// Elements that an activation's int8 scale covers, and that a group of a block holds.
inline constexpr std::size_t kGroup = 32;

// Specialised for each encoding in a file of its own. Code(i) is what the scale of element i is multiplied by.
template <Encoding kEncoding>
struct Block;

// Code j of the 32 in 16 bytes: byte j holds element j in its low and element j + 16 in its high four bits.
constexpr std::uint8_t NibbleOfHalves(const std::uint8_t (&bytes)[16], std::size_t j) {
  return j < 16 ? bytes[j] & 15 : bytes[j - 16] >> 4;
}

}  // namespace gemmule
