#include "text/merge_list.h"

#include <span>
#include <utility>

#include "base/error.h"
#include "formats/json.h"

namespace gemmule {

void MergeList::Add(std::string_view left, std::string_view right) {
  if (waiting_ == kBatch) AddBatch();
  Pair& pair = batch_[waiting_++];
  pair.begin = texts_.size();
  pair.middle = pair.begin + left.size();
  pair.end = pair.middle + right.size();
  texts_.append(left).append(right);
  const auto hash = [&](std::string_view text) {
    const std::uint32_t value = vocabulary_.HashOf(text);
    vocabulary_.PrefetchSlot(value);
    return value;
  };
  pair.left_hash = hash(left);
  pair.right_hash = hash(right);
  pair.joined_hash = hash(std::string_view(texts_).substr(pair.begin));
}

RankedMerges MergeList::Finish() {
  AddBatch();
  return std::move(merges_);
}

void MergeList::AddBatch() {
  const std::span<const Pair> pairs(batch_.data(), waiting_);
  const auto for_hashes = [&](const auto& prefetch) {
    for (const Pair& pair : pairs) {
      for (const std::uint32_t hash : {pair.left_hash, pair.right_hash, pair.joined_hash}) prefetch(hash);
    }
  };
  for_hashes([&](std::uint32_t hash) { vocabulary_.PrefetchEntry(hash); });
  for_hashes([&](std::uint32_t hash) { vocabulary_.PrefetchText(hash); });
  std::array<RankedMerges::Pair, kBatch> merges;
  std::size_t count = 0;
  for (const Pair& pair : pairs) {
    const std::string_view joined = std::string_view(texts_).substr(pair.begin, pair.end - pair.begin);
    const std::size_t left_bytes = pair.middle - pair.begin;
    const TokenId left = Known(joined.substr(0, left_bytes), pair.left_hash);
    const TokenId right = Known(joined.substr(left_bytes), pair.right_hash);
    const TokenId result = vocabulary_.Find(joined, pair.joined_hash);
    ++done_;
    if (result == kNoToken) continue;
    merges[count++] = {left, right, result};
    merges_.Prefetch(left, right);
  }
  for (std::size_t i = 0; i < count; ++i) merges_.Add(merges[i], vocabulary_);
  waiting_ = 0;
  texts_.clear();
}

TokenId MergeList::Known(std::string_view text, std::uint32_t hash) const {
  const TokenId id = vocabulary_.Find(text, hash);
  if (id != kNoToken) return id;
  throw FormatError("a merge of a token that is not in the vocabulary", {.file = vocabulary_.file(),
                                                                         .tensor = "merge " + std::to_string(done_),
                                                                         .expected = "a token",
                                                                         .found = Quoted(text)});
}

}  // namespace gemmule
