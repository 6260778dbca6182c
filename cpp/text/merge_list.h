// Reads a file's list of merges into RankedMerges.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/merges.h"
#include "text/vocabulary.h"

namespace gemmule {

// Half a million merges name three tokens each, at random places of a table larger than the cache: they are looked up
// in batches.
class MergeList {
 public:
  // `vocabulary` has all tokens that merges name.
  explicit MergeList(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
    merges_.reserve(2 * vocabulary.size());  // Gemma has 1.96 for each entry
  }

  // The next merge. Throws FormatError where a token is not in the vocabulary and UnsupportedError for a byte token
  // (those are made last), perhaps not before a later call. A merge whose result is not in the vocabulary is left out.
  void Add(std::string_view left, std::string_view right);
  // No more follow. Throws as Add and RankedMerges do.
  RankedMerges Finish();

 private:
  static constexpr std::size_t kBatch = 64;

  struct Pair {
    std::string text;  // the left token and the right one
    std::size_t left_bytes;
    bool has_result_of_last;  // its text is that of the pair before it: lists have those that make one token together
  };

  void AddBatch();
  // What messages say of the merge at hand, in which `token` is wrong.
  Where Blame(std::string_view token) const;

  const Vocabulary& vocabulary_;
  std::vector<RankedMerges::Pair> merges_;
  std::array<Pair, kBatch> batch_;
  std::size_t waiting_ = 0;  // pairs in the batch
  std::size_t done_ = 0;     // pairs before it
};

}  // namespace gemmule
