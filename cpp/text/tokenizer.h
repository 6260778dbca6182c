// Text to token ids and back.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/added_tokens.h"
#include "text/merges.h"
#include "text/vocabulary.h"
#include "text/word_breaks.h"

namespace gemmule {

// What is made of control tokens that a text spells.
enum class ControlTokens { kParse, kAreText };

// Immutable: threads may share it. A text is made into tokens in four steps, as Gemma's tokenizer.json says: added
// tokens are taken out (the leftmost, and the longest there), spaces become "▁", what lies between is cut into
// characters, and the rule's merges join these. A character without an entry becomes its bytes.
class Tokenizer {
 public:
  using Rule = std::variant<RankedMerges, ScoredMerges>;
  // Asked every few milliseconds; true: the ids are not wanted any more.
  using StopCheck = std::function<bool()>;

  struct Piece {
    std::string_view text;
    TokenId id;  // the added token that the text spells, or kNoToken
  };

  // `vocabulary` is finished.
  Tokenizer(Vocabulary vocabulary, Rule rule);

  // Throws ArgumentError where `text` is not UTF-8, or 512 MiB or longer. Nothing where `stop` said so.
  std::optional<std::vector<TokenId>> Encode(std::string_view text, ControlTokens control, const StopCheck& stop) const;

  // The text of ids; those that the vocabulary does not have are left out. "▁" becomes a space; a run of byte tokens is
  // what its bytes spell or, where they are not UTF-8, one U+FFFD for each.
  std::string Decode(std::span<const TokenId> ids) const;
  // The same, without control tokens. A run of byte tokens goes on behind one.
  std::string DecodeVisible(std::span<const TokenId> ids) const;
  // Bytes of the text of ids one by one: a byte token has one, a control token and an unknown id none.
  std::size_t VisibleBytes(std::span<const TokenId> ids) const;

  // `text` at its added tokens. A control token that is text is part of the piece around it, and no other added token
  // begins inside it: so the tokenizers package has it.
  std::vector<Piece> Split(std::string_view text, ControlTokens control) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
  Rule rule_;
  AddedTokens added_;
  WordBreaks breaks_;
};

}  // namespace gemmule
