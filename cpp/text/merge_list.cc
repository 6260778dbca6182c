#include "text/merge_list.h"

#include <utility>

#include "formats/json.h"

namespace gemmule {

void MergeList::Add(std::string_view left, std::string_view right) {
  if (waiting_ == kBatch) AddBatch();
  Pair& pair = batch_[waiting_];
  pair.text.assign(left).append(right);
  pair.left_bytes = left.size();
  pair.has_result_of_last = waiting_ != 0 && pair.text == batch_[waiting_ - 1].text;
  ++waiting_;
}

RankedMerges MergeList::Finish() {
  AddBatch();
  return RankedMerges(std::move(merges_), vocabulary_);
}

void MergeList::AddBatch() {
  std::array<std::string_view, 3 * kBatch> texts;
  std::size_t count = 0;
  for (std::size_t i = 0; i < waiting_; ++i) {
    const std::string_view text = batch_[i].text;
    texts[count++] = text.substr(0, batch_[i].left_bytes);
    texts[count++] = text.substr(batch_[i].left_bytes);
    if (!batch_[i].has_result_of_last) texts[count++] = text;
  }
  std::array<TokenId, 3 * kBatch> ids;
  vocabulary_.FindAll({texts.data(), count}, ids);
  std::size_t at = 0;
  TokenId result = kNoToken;
  for (std::size_t i = 0; i < waiting_; ++i, ++done_) {
    const std::size_t left = at++, right = at++;
    if (!batch_[i].has_result_of_last) result = ids[at++];
    for (const std::size_t part : {left, right}) {
      if (ids[part] != kNoToken) continue;
      throw FormatError("a merge of a token that is not in the vocabulary", Blame(texts[part]));
    }
    if (result == kNoToken) continue;
    for (const std::size_t part : {left, right}) {
      if (vocabulary_.Kind(ids[part]) != TokenKind::kByte) continue;
      throw UnsupportedError("a merge of byte tokens", "Use the tokenizer published with a Gemma checkpoint.",
                             Blame(texts[part]));
    }
    merges_.push_back({ids[left], ids[right], result});
  }
  waiting_ = 0;
}

Where MergeList::Blame(std::string_view token) const {
  return {.file = vocabulary_.file(),
          .tensor = "merge " + std::to_string(done_),
          .expected = "tokens of text",
          .found = Quoted(token)};
}

}  // namespace gemmule
