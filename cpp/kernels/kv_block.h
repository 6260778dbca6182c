// How keys and values lie in the cache.
#pragma once

#include <cstddef>
#include <span>

#include "base/buffer.h"
#include "quant/encoding.h"

namespace gemmule {

constexpr std::size_t kMaxHeadDim = 1024;  // E at most: kernels keep a head on the stack

// Bytes of one head's E elements of a position: whole 32-bit words.
constexpr std::size_t HeadBytes(Encoding encoding, std::size_t e) { return RoundUp(RowBytes(encoding, e), 4); }

// Keys and values of one layer, in blocks of positions. Position p lies in block (p / kBlock) % blocks.size(). A block
// holds the keys of G heads, one head after the other, then their values:
//
//   keys    [G][kBlock / kKeys][HeadBytes / 4][kKeys] words: a vector of scores takes the same word of kKeys keys
//   values  [G][kBlock][HeadBytes] bytes
struct KvView {
  static constexpr std::size_t kBlock = 64;  // positions
  static constexpr std::size_t kKeys = 16;   // keys whose words are interleaved

  Encoding encoding = Encoding::kF32;  // kF32, kBF16, kC8, kC4
  std::span<const std::byte* const> blocks;
  std::size_t row_bytes = 0;  // of one position's keys: G * HeadBytes(encoding, E)
  float k_scale = 1.0f;       // value of a key code 1; 1 for floats
  float v_scale = 1.0f;

  const std::byte* Block(std::size_t position) const { return blocks[position / kBlock % blocks.size()]; }
};

// Encodes what one position contributes into its block. keys, values (G E,); scales for codes.
void StoreKeysValues(Encoding encoding, std::span<const float> keys, std::span<const float> values, std::size_t e,
                     float k_scale, float v_scale, std::size_t position, std::byte* block);

// One position as it lies in files: the keys of G heads, then their values, (2, G, RowBytes(encoding, E)) bytes.
constexpr std::size_t PositionBytes(Encoding encoding, std::size_t heads, std::size_t e) {
  return 2 * heads * RowBytes(encoding, e);
}
// Copies a position out of its block, and into one. What fills a head up to HeadBytes stays out, and becomes 0 or
// stays as it was.
void CopyFromBlock(Encoding encoding, std::size_t heads, std::size_t e, std::size_t position, const std::byte* block,
                   std::byte* bytes);
void CopyIntoBlock(Encoding encoding, std::size_t heads, std::size_t e, std::size_t position, const std::byte* bytes,
                   std::byte* block);

}  // namespace gemmule
