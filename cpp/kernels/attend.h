#pragma once

#include <cstddef>
#include <span>

#include "quant/encoding.h"

namespace gemmule {

constexpr std::size_t kMaxHeadDim = 1024;  // E at most: kernels keep a head on the stack

// Keys and values of one layer, in blocks of positions. Position p lies in block (p / kKvBlock) % blocks.size(), row
// p % kKvBlock. A block holds its kKvBlock key rows, then its value rows; a row holds G heads of E elements.
struct KvView {
  static constexpr std::size_t kBlock = 64;  // positions

  Encoding encoding = Encoding::kF32;  // kF32, kBF16, kC8, kC4
  std::span<const std::byte* const> blocks;
  std::size_t row_bytes = 0;  // of one position's keys: G * RowBytes(encoding, E)
  float k_scale = 1.0f;       // value of a key code 1; 1 for floats
  float v_scale = 1.0f;
};

// out = sum over positions j in [first, last) of softmax(q . k_j)_j v_j, for one query head; score scale 1.
//
//   kv_head  which of the G heads of a row
//   q, out   (E,) f32, E <= kMaxHeadDim, E even; may be the same
//
// One pass with a running maximum over blocks of positions. The order of operations depends on [first, last) alone, not
// on how the positions were filled or on the number of blocks. Error: about 2^-20 of max |v|. Single-threaded,
// allocates nothing.
void Attend(const KvView& kv, std::size_t kv_head, std::size_t first, std::size_t last, std::span<const float> q,
            std::span<float> out) noexcept;

}  // namespace gemmule
