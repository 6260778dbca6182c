// Where a text can be cut without changing its tokens: between two characters that no entry has side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "text/index_table.h"

namespace gemmule {

// Tokens are entries or single characters, so no merge crosses such a place, and the parts can be merged alone: short
// words fit the cache. Pairs share bits of a fixed table; a bit that another pair has set costs a cut, no more.
class WordBreaks {
 public:
  void Add(std::string_view entry) {
    std::uint32_t before = 0;
    for (std::size_t at = 0; at < entry.size();) {
      const std::string_view character = entry.substr(at, Utf8Bytes(entry.substr(at)));
      const std::uint32_t key = Key(character);
      if (at != 0) bits_[Bit(before, key) / 64] |= std::uint64_t{1} << Bit(before, key) % 64;
      before = key;
      at += character.size();
    }
  }

  // Calls word(part) for each part of `text` (UTF-8), in order.
  template <class Word>
  void Cut(std::string_view text, const Word& word) const {
    std::size_t begin = 0, at = 0;
    std::uint32_t before = 0;
    while (at < text.size()) {
      const std::string_view character = text.substr(at, Utf8Bytes(text.substr(at)));
      const std::uint32_t key = Key(character);
      if (at != begin && !AreTogether(before, key)) {
        word(text.substr(begin, at - begin));
        begin = at;
      }
      before = key;
      at += character.size();
    }
    if (begin != text.size()) word(text.substr(begin));
  }

 private:
  static constexpr int kLogBits = 20;  // 128 KiB; Gemma's entries have about 100,000 different pairs

  // The character's bytes as a number.
  static std::uint32_t Key(std::string_view character) {
    std::uint32_t key = 0;
    for (const char byte : character) key = key << 8 | static_cast<unsigned char>(byte);
    return key;
  }
  static std::size_t Bit(std::uint32_t left, std::uint32_t right) {
    return (std::uint64_t{left} << 32 | right) * 0x9E3779B97F4A7C15u >> (64 - kLogBits);
  }
  bool AreTogether(std::uint32_t left, std::uint32_t right) const {
    const std::size_t bit = Bit(left, right);
    return bits_[bit / 64] >> bit % 64 & 1;
  }

  std::vector<std::uint64_t> bits_ = std::vector<std::uint64_t>((std::size_t{1} << kLogBits) / 64);
};

}  // namespace gemmule
