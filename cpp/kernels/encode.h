// Float weights to any encoding that gemmule writes row by row with a scale for each block, or none.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/encode_q4_0.h"
#include "quant/encode_counts.h"  // IWYU pragma: export
#include "quant/encoding.h"

namespace gemmule {

struct EncodeOptions {
  Encoding target = Encoding::kQ4_0;  // one that CanEncode
  Encoding source = Encoding::kF32;   // kF32, kF16 or kBF16: what the weights were widened from
  Grid grid = Grid::kRecover;         // of kQ4_0
};

constexpr bool CanEncode(Encoding target) {
  switch (target) {
    case Encoding::kF32:
    case Encoding::kF16:
    case Encoding::kBF16:
    case Encoding::kQ4_0:
    case Encoding::kQ8_0:
    case Encoding::kQ6_K: return true;
    default: return false;
  }
}

// One row. Blocks want finite weights.
//
//   x       (K,), K a multiple of BlockElements(target)
//   out     RowBytes(target, K) bytes, any alignment
//   counts  what became of the row is added to it
void EncodeWeights(const EncodeOptions& options, std::span<const float> x, std::byte* out,
                   EncodeCounts& counts) noexcept;

}  // namespace gemmule
