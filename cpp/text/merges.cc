#include "text/merges.h"

#include "base/error.h"
#include "formats/json.h"

namespace gemmule {

void RankedMerges::Add(const Pair& pair, const Vocabulary& vocabulary) {
  const auto where = [&] {
    return Where{.file = vocabulary.file(),
                 .tensor = "merge " + Quoted(vocabulary.Text(pair.left)) + " " + Quoted(vocabulary.Text(pair.right))};
  };
  if (vocabulary.Kind(pair.left) == TokenKind::kByte || vocabulary.Kind(pair.right) == TokenKind::kByte) {
    throw UnsupportedError("a merge of byte tokens", "Use the tokenizer published with a Gemma checkpoint.", where());
  }
  const auto rank = static_cast<std::uint32_t>(merges_.size());
  const std::uint32_t twin = table_.Insert(HashOf(pair.left, pair.right), rank, Is(pair.left, pair.right));
  if (twin != IndexTable::kNone) throw FormatError("a merge stands twice", where());
  merges_.push_back(pair);
}

}  // namespace gemmule
