// Float weights to 2-, 4- or 8-bit codes, with scales that are given.
#pragma once

#include <cstddef>
#include <span>

#include "quant/encode_counts.h"
#include "quant/encoding.h"

namespace gemmule {

// One row of G groups, each with its scale: code = clamp(round_half_even(x / scale)) to the range of the encoding,
// packed as in quant/channelwise.h. A group counts as on the grid if its codes times its scale, rounded to the type
// that x was widened from, are x.
//
//   encoding  kC2, kC4, kC8, kU8, or kG4 (packed like kC4)
//   source    kF32, kF16 or kBF16: what x was widened from
//   x         (K,), K a multiple of G and K / G one of the elements in a byte; finite
//   scales    (G,), finite, of any sign; 0 gives codes of 0
//   out       RowBytes(encoding, K) bytes, any alignment
//   counts    what became of the row is added to it
//
// The same bits on all targets. Allocates nothing.
void EncodeCodes(Encoding encoding, Encoding source, std::span<const float> x, std::span<const float> scales,
                 std::byte* out, EncodeCounts& counts) noexcept;

// Whether EncodeCodes would count x (n,), a single group, as on the grid.
bool IsOnGrid(Encoding encoding, Encoding source, std::span<const float> x, float scale) noexcept;

}  // namespace gemmule
