// The two ways to say which neighbours become one token, and which pair does first. Both are a rule for merge_word.h.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace gemmule {

// A part of a word, on its way to a token.
struct Part {
  std::string_view text;
  TokenId id;  // kNoToken: a character without an entry
};

struct Merge {
  std::uint32_t order;  // the least goes first
  TokenId id;           // what the pair becomes
};

// Byte-pair encoding by rank, as tokenizer.json lists it: (left, right) pairs, first pair first.
class RankedMerges {
 public:
  struct Pair {
    TokenId left, right, result;
  };

  RankedMerges() = default;
  // `merges` are those of `vocabulary`, by rank. Throws FormatError where one stands twice.
  RankedMerges(std::vector<Pair> merges, const Vocabulary& vocabulary);

  std::optional<Merge> Of(const Vocabulary&, const Part& left, const Part& right) const {
    if (left.id == kNoToken || right.id == kNoToken) return std::nullopt;
    const std::uint32_t rank = Find(left.id, right.id);
    if (rank == IndexTable::kNone) return std::nullopt;
    return Merge{rank, merges_[rank].result};
  }

 private:
  std::uint32_t HashOf(TokenId left, TokenId right) const {
    return Hash(static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right), seed_);
  }
  // Whether a merge's index is that of a pair.
  auto Is(TokenId left, TokenId right) const {
    return [this, left, right](std::uint32_t i) { return merges_[i].left == left && merges_[i].right == right; };
  }
  std::uint32_t Find(TokenId left, TokenId right) const { return table_.Find(HashOf(left, right), Is(left, right)); }

  std::vector<Pair> merges_;  // by rank
  IndexTable table_;
  std::uint64_t seed_ = HashSeed();
};

// SentencePiece's byte-pair encoding: two neighbours merge where their joined text is an entry, the highest score
// first.
class ScoredMerges {
 public:
  // scores: one for each id, none of them NaN.
  explicit ScoredMerges(std::vector<float> scores) : scores_(std::move(scores)) {}

  std::optional<Merge> Of(const Vocabulary& vocabulary, const Part& left, const Part& right) const {
    const std::string_view joined(left.text.data(), left.text.size() + right.text.size());  // they touch
    const TokenId id = vocabulary.Find(joined);
    if (id == kNoToken || vocabulary.Kind(id) == TokenKind::kControl || vocabulary.Kind(id) == TokenKind::kByte) {
      return std::nullopt;
    }
    return Merge{Order(scores_[static_cast<std::size_t>(id)]), id};
  }

 private:
  // A number that falls as the score rises: the bits of a float in the order of floats, turned round.
  static std::uint32_t Order(float score) {
    const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 becomes 0
    return bits >> 31 ? bits : ~(bits | 0x80000000u);
  }

  std::vector<float> scores_;
};

}  // namespace gemmule
