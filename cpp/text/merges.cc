#include "text/merges.h"

#include <ranges>
#include <string>

#include "base/error.h"
#include "formats/json.h"

namespace gemmule {

RankedMerges::RankedMerges(std::vector<Pair> merges, const Vocabulary& vocabulary) : merges_(std::move(merges)) {
  const std::uint32_t second = table_.Insert(
      std::views::iota(std::uint32_t{0}, static_cast<std::uint32_t>(merges_.size())),
      [&](std::uint32_t i) { return HashOf(merges_[i].left, merges_[i].right); },
      [&](std::uint32_t i, std::uint32_t j) { return Is(merges_[j].left, merges_[j].right)(i); });
  if (second == IndexTable::kNone) return;
  const auto text = [&](TokenId id) { return Quoted(vocabulary.Text(id)); };
  throw FormatError("a merge stands twice",
                    {.file = vocabulary.file(),
                     .tensor = "merge " + text(merges_[second].left) + " " + text(merges_[second].right),
                     .expected = "each merge once",
                     .found = "one more"});
}

}  // namespace gemmule
