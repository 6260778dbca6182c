// Float weights to blocks of Q6_K.
#pragma once

#include <cstddef>
#include <span>

#include "quant/encode_counts.h"
#include "quant/encoding.h"

namespace gemmule {

// One row, searching for little squared error: of some scales of a block, and for each of some scales of its 16 parts,
// those with the least. Arguments as of EncodeQ4_0, but K % 256 == 0 and K / 256 blocks.
void EncodeQ6_K(Encoding source, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept;

}  // namespace gemmule
