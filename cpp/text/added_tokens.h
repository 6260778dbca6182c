// Tokens that are found in the text before anything else looks at it.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace gemmule {

class AddedTokens {
 public:
  struct Match {
    std::size_t begin, end;  // in bytes
    TokenId id;
  };

  // Throws UnsupportedError where a token is longer than kMaxBytes.
  AddedTokens(const Vocabulary& vocabulary, std::span<const TokenId> ids);

  // The first match that begins at `from` or after it, the longest one there.
  std::optional<Match> Find(std::string_view text, std::size_t from) const;

 private:
  // A search looks at most at this many bytes from every place of the text. Gemma's longest has 31.
  static constexpr std::size_t kMaxBytes = 512;

  struct Token {
    std::string text;
    TokenId id;
  };
  std::vector<Token> tokens_;             // sorted by the bytes of their texts
  std::array<std::size_t, 257> first_{};  // first_[b] .. first_[b + 1]: the tokens that begin with byte b
};

}  // namespace gemmule
