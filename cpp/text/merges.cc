#include "text/merges.h"

#include "base/error.h"
#include "formats/json.h"

namespace gemmule {

void RankedMerges::Add(TokenId left, TokenId right, TokenId result, const Vocabulary& vocabulary) {
  const auto where = [&] {
    return Where{.file = vocabulary.file(),
                 .tensor = "merge " + Quoted(vocabulary.Text(left)) + " " + Quoted(vocabulary.Text(right))};
  };
  if (vocabulary.Kind(left) == TokenKind::kByte || vocabulary.Kind(right) == TokenKind::kByte) {
    throw UnsupportedError("a merge of byte tokens", "Use the tokenizer published with a Gemma checkpoint.", where());
  }
  const auto rank = static_cast<std::uint32_t>(merges_.size());
  const std::uint32_t twin = table_.Insert(HashOf(left, right), rank, Is(left, right));
  if (twin != IndexTable::kNone) throw FormatError("a merge stands twice", where());
  merges_.push_back({left, right, result});
}

}  // namespace gemmule
