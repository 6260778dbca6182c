#include "quant/block_look.h"

#include <algorithm>
#include <cmath>

#include "quant/blocks.h"

namespace gemmule {
namespace {

// Calls visit.operator()<kEncoding>() for the encoding, which HoldsScales.
template <class Visit>
auto For(Encoding encoding, const Visit& visit) {
  switch (encoding) {
    case Encoding::kQ4_1: return visit.template operator()<Encoding::kQ4_1>();
    case Encoding::kQ5_0: return visit.template operator()<Encoding::kQ5_0>();
    case Encoding::kQ5_1: return visit.template operator()<Encoding::kQ5_1>();
    case Encoding::kQ8_0: return visit.template operator()<Encoding::kQ8_0>();
    case Encoding::kQ4_K: return visit.template operator()<Encoding::kQ4_K>();
    case Encoding::kQ5_K: return visit.template operator()<Encoding::kQ5_K>();
    case Encoding::kQ6_K: return visit.template operator()<Encoding::kQ6_K>();
    case Encoding::kQ4_0:
    default: return visit.template operator()<Encoding::kQ4_0>();
  }
}

template <Encoding kEncoding>
bool AllCodesAre(const Block<kEncoding>& block, int code) {
  for (std::size_t i = 0; i < BlockElements(kEncoding); ++i) {
    if (block.Code(i) != code) return false;
  }
  return true;
}

template <Encoding kEncoding>
std::uint8_t Marks(const Block<kEncoding>& block) {
  constexpr bool kHasMinimum = Block<kEncoding>::kLowest == 0;
  float values[BlockElements(kEncoding)];
  block.Decode(values);
  std::uint8_t marks = 0;
  if (!std::isfinite(values[0])) marks |= kMarkNotFinite;
  if (std::all_of(std::begin(values), std::end(values), [](float x) { return x == 0.0f; })) marks |= kMarkZero;
  if (!kHasMinimum && AllCodesAre(block, Block<kEncoding>::kLowest)) marks |= kMarkLowest;
  if (!kHasMinimum && AllCodesAre(block, Block<kEncoding>::kHighest)) marks |= kMarkHighest;
  return marks;
}

}  // namespace

void MarkBlocks(Encoding encoding, std::span<const std::byte> blocks, std::span<std::uint8_t> marks) {
  For(encoding, [&]<Encoding kEncoding>() {
    const auto* block = reinterpret_cast<const Block<kEncoding>*>(blocks.data());
    for (std::size_t b = 0; b < marks.size(); ++b) marks[b] = Marks(block[b]);
  });
}

std::vector<std::int64_t> CountCodes(Encoding encoding, std::span<const std::byte> blocks) {
  return For(encoding, [&]<Encoding kEncoding>() {
    constexpr int kLowestCode = Block<kEncoding>::kLowest;
    std::vector<std::int64_t> counts(static_cast<std::size_t>(Block<kEncoding>::kHighest - kLowestCode + 1));
    const auto* block = reinterpret_cast<const Block<kEncoding>*>(blocks.data());
    for (std::size_t b = 0; b < blocks.size() / BlockBytes(kEncoding); ++b) {
      for (std::size_t i = 0; i < BlockElements(kEncoding); ++i) {
        ++counts[static_cast<std::size_t>(block[b].Code(i) - kLowestCode)];
      }
    }
    return counts;
  });
}

}  // namespace gemmule
