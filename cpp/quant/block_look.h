// What shows in stored blocks without a model to run them: the use of their codes, and damage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quant/encoding.h"

namespace gemmule {

// Marks of a block.
inline constexpr std::uint8_t kMarkNotFinite =
    1;                                        // its scale or minimum is NaN or infinite, and so are all its elements
inline constexpr std::uint8_t kMarkZero = 2;  // all elements are 0
// All codes are the lowest, or the highest. Not where blocks have a minimum: equal elements are then written so.
inline constexpr std::uint8_t kMarkLowest = 4;
inline constexpr std::uint8_t kMarkHighest = 8;

// GGUF's blocks: those that hold their scales.
constexpr bool HoldsScales(Encoding encoding) { return IsBlock(encoding) && encoding != Encoding::kG4; }

// marks[b] = the marks of block b, or-ed.
//
//   blocks  marks.size() blocks, of an encoding that HoldsScales
void MarkBlocks(Encoding encoding, std::span<const std::byte> blocks, std::span<std::uint8_t> marks);

// How often each code stands in `blocks`, which are whole, from the lowest code to the highest.
std::vector<std::int64_t> CountCodes(Encoding encoding, std::span<const std::byte> blocks);

}  // namespace gemmule
