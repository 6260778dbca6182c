// How the elements of a stored matrix's row are written. A row is a whole number of blocks, end to end.
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
  kU8,  // 8 bits, offset-binary
  // Integers with one scale for 32 elements, the scales in a tensor of their own; see quant/g4.h.
  kG4,
  // GGUF's blocks, which hold their scales; each has its file in quant/.
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

inline constexpr Encoding kEncodings[] = {
    Encoding::kF32,  Encoding::kF16,  Encoding::kBF16, Encoding::kC2,   Encoding::kC4,   Encoding::kC8,
    Encoding::kU8,   Encoding::kG4,   Encoding::kQ4_0, Encoding::kQ4_1, Encoding::kQ5_0, Encoding::kQ5_1,
    Encoding::kQ8_0, Encoding::kQ4_K, Encoding::kQ5_K, Encoding::kQ6_K,
};

struct EncodingFacts {
  std::string_view name;
  std::size_t block_elements;  // the fewest elements that fill whole bytes or share a scale within the row
  std::size_t block_bytes;     // without scales that lie in another tensor
};

constexpr EncodingFacts Facts(Encoding encoding) {
  switch (encoding) {
    case Encoding::kF32: return {"f32", 1, 4};
    case Encoding::kF16: return {"f16", 1, 2};
    case Encoding::kBF16: return {"bf16", 1, 2};
    case Encoding::kC2: return {"c2", 4, 1};
    case Encoding::kC4: return {"c4", 2, 1};
    case Encoding::kC8: return {"c8", 1, 1};
    case Encoding::kU8: return {"u8", 1, 1};
    case Encoding::kG4: return {"g4", 32, 16};
    case Encoding::kQ4_0: return {"q4_0", 32, 18};
    case Encoding::kQ4_1: return {"q4_1", 32, 20};
    case Encoding::kQ5_0: return {"q5_0", 32, 22};
    case Encoding::kQ5_1: return {"q5_1", 32, 24};
    case Encoding::kQ8_0: return {"q8_0", 32, 34};
    case Encoding::kQ4_K: return {"q4_k", 256, 144};
    case Encoding::kQ5_K: return {"q5_k", 256, 176};
    case Encoding::kQ6_K: return {"q6_k", 256, 210};
  }
  return {"?", 1, 0};
}

constexpr std::string_view Name(Encoding encoding) { return Facts(encoding).name; }
constexpr std::size_t BlockElements(Encoding encoding) { return Facts(encoding).block_elements; }
constexpr std::size_t BlockBytes(Encoding encoding) { return Facts(encoding).block_bytes; }

// Integer codes with one scale a row.
constexpr bool IsCoded(Encoding encoding) {
  return encoding == Encoding::kC2 || encoding == Encoding::kC4 || encoding == Encoding::kC8 ||
         encoding == Encoding::kU8;
}

// Integer codes with a scale for every 16 or 32 elements: GGUF's blocks and g4.
constexpr bool IsBlock(Encoding encoding) { return BlockElements(encoding) >= 32; }

// n is a multiple of BlockElements.
constexpr std::size_t RowBytes(Encoding encoding, std::size_t n) {
  return n / BlockElements(encoding) * BlockBytes(encoding);
}

}  // namespace gemmule
