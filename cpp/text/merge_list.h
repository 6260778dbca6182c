// Reads a file's list of merges into RankedMerges.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/merges.h"
#include "text/vocabulary.h"

namespace gemmule {

// Half a million merges name three tokens each, at random places of a table larger than the cache: the memory of a
// batch is asked for before any of it is needed. (One by one, opening Gemma's took twice as long.)
class MergeList {
 public:
  explicit MergeList(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}

  // The next merge. Throws what RankedMerges::Add does, and FormatError where a token is not in the vocabulary, perhaps
  // not before a later call. A merge whose result is not in the vocabulary is left out.
  void Add(std::string_view left, std::string_view right);
  // No more follow.
  RankedMerges Finish();

 private:
  static constexpr std::size_t kBatch = 64;

  struct Pair {
    std::size_t begin, middle, end;  // in texts_: the left token and the right one, which touch
    std::uint32_t left_hash, right_hash, joined_hash;
  };

  void AddBatch();
  TokenId Known(std::string_view text, std::uint32_t hash) const;

  const Vocabulary& vocabulary_;
  RankedMerges merges_;
  std::array<Pair, kBatch> batch_;
  std::string texts_;        // of the batch
  std::size_t waiting_ = 0;  // pairs in the batch
  std::size_t done_ = 0;     // pairs before it
};

}  // namespace gemmule
