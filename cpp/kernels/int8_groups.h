// Activations as int8 in groups of 32 elements with a scale each, for rows in blocks, and their making.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/block.h"
#include "quant/encoding.h"

namespace gemmule {

// What the codes of a block are stored with on top, where there is no minimum.
constexpr int CodeOffset(Encoding encoding) {
  switch (encoding) {
    case Encoding::kG4:
    case Encoding::kQ4_0: return 8;
    case Encoding::kQ5_0: return 16;
    case Encoding::kQ6_K: return 32;
    case Encoding::kQ8_0: return 128;
    default: return 0;
  }
}

// Parts of a group with a scale each.
constexpr std::size_t ScalesPerGroup(Encoding encoding) { return encoding == Encoding::kQ6_K ? 2 : 1; }

// T tokens: element = code * scale of its group. The elements are in step order (kernels/steps.h), which moves them
// only within their group. The tokens lie in tiles of kTileTokens, the last one with what is left; in a tile of n a
// group of all its tokens lies together: [tile][K / 32][n].
struct Int8Groups {
  static constexpr std::size_t kTileTokens = 12;

  std::size_t tokens = 0;        // T
  std::size_t k = 0;             // a multiple of 32
  std::int8_t* codes = nullptr;  // (T * K / 32, 32), -127 ... 127
  float* scales = nullptr;       // (T * K / 32,)
  std::int32_t* sums = nullptr;  // (T * K / 32, ScalesPerGroup), of a part's codes, times -CodeOffset unless that is 0

  std::size_t groups() const { return k / kGroup; }
  // Tokens of the tile in which token t is.
  std::size_t TileTokens(std::size_t t) const { return std::min(kTileTokens, tokens - t / kTileTokens * kTileTokens); }
  // Where group g of token t is.
  std::size_t At(std::size_t t, std::size_t g) const {
    return t / kTileTokens * kTileTokens * groups() + g * TileTokens(t) + t % kTileTokens;
  }
};

// Token t of `to`: scale = max|x| / 127, code = round_half_even(x / scale). x (K,). A group with an infinity or a NaN
// gets such a scale and codes of 0, so that its products are NaN.
void QuantizeGroups(Encoding encoding, std::span<const float> x, std::size_t t, const Int8Groups& to) noexcept;

}  // namespace gemmule
