// The entries of a tokenizer: their texts, kinds and ids.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/index_table.h"

namespace gemmule {

using TokenId = std::int32_t;
inline constexpr TokenId kNoToken = -1;

// "▁", U+2581: a space inside an entry's text.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

enum class TokenKind : std::uint8_t {
  kNormal,
  kByte,         // <0x0A>: one byte of a character that has no entry
  kControl,      // special: never made of text that people write
  kUserDefined,  // text that is always one token
};

class Vocabulary {
 public:
  // `file`: the name for messages.
  explicit Vocabulary(std::string file) : file_(std::move(file)) {}

  // Throws FormatError where the id is taken or out of range, or the text is empty or not UTF-8.
  void Add(std::int64_t id, std::string_view text);
  // Lets Find find the entries that were added. Throws FormatError where one's text is already there.
  void Index();
  void SetKind(TokenId id, TokenKind kind) { entries_[Place(id)].kind = kind; }
  // To be called once, after the last Index. Throws FormatError where an id is left out, UnsupportedError where one of
  // the 256 byte tokens is: then some text would have no tokens.
  void Finish();

  std::size_t size() const { return entries_.size(); }
  bool Has(std::int64_t id) const { return id >= 0 && static_cast<std::size_t>(id) < size(); }
  // Whether an id has text of its own or a part in it: not a control token, and in the vocabulary.
  bool IsVisible(std::int64_t id) const { return Has(id) && Kind(static_cast<TokenId>(id)) != TokenKind::kControl; }
  bool IsByte(std::int64_t id) const { return Has(id) && ByteNamed(Text(static_cast<TokenId>(id))) >= 0; }
  // Of an id that the vocabulary has.
  std::string_view Text(TokenId id) const {
    const Entry& entry = entries_[Place(id)];
    return {pool_.data() + entry.begin, entry.bytes};
  }
  TokenKind Kind(TokenId id) const { return entries_[Place(id)].kind; }
  std::vector<TokenId> OfKind(TokenKind kind) const;

  // The id of a text, kNoToken where there is none.
  TokenId Find(std::string_view text) const { return Find(text, HashOf(text)); }
  // Of many texts: ids[i] is that of texts[i]. Faster than one by one, where they are many and no cache holds them.
  void FindAll(std::span<const std::string_view> texts, std::span<TokenId> ids) const;

  TokenId ByteToken(std::uint8_t byte) const { return byte_tokens_[byte]; }
  // The byte that a text such as "<0x0A>" names, -1 where it names none.
  static int ByteNamed(std::string_view text);

  const std::string& file() const { return file_; }

 private:
  struct Entry {
    std::uint32_t begin = 0;  // in the pool
    std::uint32_t bytes = 0;  // 0: an id left out
    TokenKind kind = TokenKind::kNormal;
  };

  static std::size_t Place(TokenId id) { return static_cast<std::size_t>(id); }
  static TokenId Id(std::size_t place) { return static_cast<TokenId>(place); }

  std::uint32_t HashOf(std::string_view text) const { return Hash(text, seed_); }
  TokenId Find(std::string_view text, std::uint32_t hash) const {
    const std::uint32_t place = table_.Find(hash, [&](std::uint32_t i) { return Text(Id(i)) == text; });
    return place == IndexTable::kNone ? kNoToken : Id(place);
  }

  std::string file_;
  std::string pool_;  // all texts, one after another
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> waiting_;  // ids that the table does not have yet
  IndexTable table_;
  std::array<TokenId, 256> byte_tokens_;
  std::uint64_t seed_ = HashSeed();
};

}  // namespace gemmule
