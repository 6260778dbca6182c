#include "text/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "formats/json.h"

namespace gemmule {

AddedTokens::AddedTokens(const Vocabulary& vocabulary, std::span<const TokenId> ids) {
  for (const TokenId id : ids) {
    const std::string_view text = vocabulary.Text(id);
    if (text.size() > kMaxBytes) {
      throw UnsupportedError("too long an added token", "Use the tokenizer published with a Gemma checkpoint.",
                             {.file = vocabulary.file(),
                              .tensor = Quoted(text),
                              .expected = "at most " + std::to_string(kMaxBytes) + " bytes",
                              .found = std::to_string(text.size())});
    }
    tokens_.push_back({std::string(text), id});
  }
  std::sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) { return a.text < b.text; });
  for (const Token& token : tokens_) ++first_[static_cast<unsigned char>(token.text[0]) + std::size_t{1}];
  for (std::size_t byte = 0; byte < 256; ++byte) first_[byte + 1] += first_[byte];
}

std::optional<AddedTokens::Match> AddedTokens::Find(std::string_view text, std::size_t from) const {
  if (tokens_.empty()) return std::nullopt;
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    const auto byte = static_cast<unsigned char>(text[begin]);
    auto low = tokens_.begin() + static_cast<std::ptrdiff_t>(first_[byte]);
    auto high = tokens_.begin() + static_cast<std::ptrdiff_t>(first_[byte + std::size_t{1}]);
    std::optional<Match> longest;
    // [low, high): the tokens that agree with the text in their first `length` bytes; the shortest comes first.
    for (std::size_t length = 1; low != high; ++length) {
      if (low->text.size() == length) {
        longest = {begin, begin + length, low->id};
        ++low;
      }
      if (begin + length == text.size()) break;
      const auto next = static_cast<unsigned char>(text[begin + length]);
      const auto at = [length](const Token& token) { return static_cast<unsigned char>(token.text[length]); };
      low = std::partition_point(low, high, [&](const Token& token) { return at(token) < next; });
      high = std::partition_point(low, high, [&](const Token& token) { return at(token) == next; });
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace gemmule
