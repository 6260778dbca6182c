// Turns a word into tokens: neighbours merge, one pair at a time, until no rule merges any two of what is left.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "text/merges.h"
#include "text/vocabulary.h"

namespace gemmule {

// Memory that is used again from word to word. For one thread.
//
// A heap over a linked list: n characters take O(n log n), whatever the word. Of pairs of equal order the leftmost
// merges first.
template <class Rule>
class WordMerger {
 public:
  WordMerger(const Vocabulary& vocabulary, const Rule& rule) : vocabulary_(vocabulary), rule_(rule) {}

  // Appends the tokens of `word`, UTF-8 of under 2 GiB. A character without an entry becomes its bytes.
  void Encode(std::string_view word, std::vector<TokenId>& ids) {
    Split(word);
    for (std::uint32_t i = 0; i + 1 < symbols_.size(); ++i) Offer(i);
    std::make_heap(heap_.begin(), heap_.end(), Later());
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), Later());
      const Candidate pair = heap_.back();
      heap_.pop_back();
      MergeIfThere(pair);
    }
    for (std::uint32_t i = 0; i != kEnd; i = symbols_[i].next) Append(symbols_[i].part, ids);
  }

 private:
  static constexpr std::uint32_t kEnd = 0xFFFFFFFF;

  struct Symbol {
    Part part;  // an empty text: merged into the one before it
    std::uint32_t previous, next;
  };
  struct Candidate {
    std::uint32_t order;
    std::uint32_t left;   // the left symbol's place
    std::uint32_t bytes;  // of the pair. Symbols only grow: the pair is still there while this is its length.
    TokenId id;
  };
  struct Later {
    bool operator()(const Candidate& a, const Candidate& b) const {
      return a.order != b.order ? a.order > b.order : a.left > b.left;
    }
  };

  void Split(std::string_view word) {
    symbols_.clear();
    heap_.clear();
    while (!word.empty()) {
      const std::string_view character = word.substr(0, Utf8Bytes(word));
      const auto place = static_cast<std::uint32_t>(symbols_.size());
      symbols_.push_back({{character, vocabulary_.Find(character)}, place == 0 ? kEnd : place - 1, place + 1});
      word.remove_prefix(character.size());
    }
    symbols_.back().next = kEnd;
  }

  // Puts the pair of symbol `left` and the one behind it where the next candidates come from, if a rule merges it.
  bool Offer(std::uint32_t left) {
    const Part& first = symbols_[left].part;
    const Part& second = symbols_[symbols_[left].next].part;
    const std::optional<Merge> merge = rule_.Of(vocabulary_, first, second);
    if (!merge) return false;
    heap_.push_back(
        {merge->order, left, static_cast<std::uint32_t>(first.text.size() + second.text.size()), merge->id});
    return true;
  }

  void Push(std::uint32_t left) {
    if (Offer(left)) std::push_heap(heap_.begin(), heap_.end(), Later());
  }

  void MergeIfThere(const Candidate& pair) {
    Symbol& left = symbols_[pair.left];
    if (left.part.text.empty() || left.next == kEnd) return;
    Symbol& right = symbols_[left.next];
    if (left.part.text.size() + right.part.text.size() != pair.bytes) return;
    const char* const begin = left.part.text.data();  // the right part's text follows it
    left.part = {{begin, pair.bytes}, pair.id};
    left.next = right.next;
    right.part.text = {};
    if (left.next != kEnd) {
      symbols_[left.next].previous = pair.left;
      Push(pair.left);
    }
    if (left.previous != kEnd) Push(left.previous);
  }

  void Append(const Part& part, std::vector<TokenId>& ids) const {
    if (part.id != kNoToken) {
      ids.push_back(part.id);
      return;
    }
    for (const char byte : part.text) ids.push_back(vocabulary_.ByteToken(static_cast<std::uint8_t>(byte)));
  }

  const Vocabulary& vocabulary_;
  const Rule& rule_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace gemmule
