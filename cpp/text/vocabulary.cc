#include "text/vocabulary.h"

#include <limits>
#include <random>

#include "base/error.h"
#include "base/utf8.h"
#include "formats/json.h"

namespace gemmule {
namespace {

// Gemma has 262,144 entries. An id takes memory for all before it, which a file of a few bytes may ask for.
constexpr std::int64_t kMaxTokens = std::int64_t{1} << 20;

// As tokenizers and llama.cpp spell byte tokens when they look for one.
std::string ByteName(unsigned byte) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 0xF], '>'};
}

}  // namespace

std::uint64_t HashSeed() {
  static const std::uint64_t seed = [] {
    std::random_device device;
    return std::uint64_t{device()} << 32 | device();
  }();
  return seed;
}

int Vocabulary::ByteNamed(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  int byte = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    byte = byte * 16 + digit;
  }
  return byte;
}

void Vocabulary::Add(std::int64_t id, std::string_view text) {
  const auto fail = [&](const char* what, std::string expected, std::string found) {
    throw FormatError(
        what, {.file = file_, .tensor = Quoted(text), .expected = std::move(expected), .found = std::move(found)});
  };
  if (id < 0 || id >= kMaxTokens) {
    fail("a token's id is out of range", "0 to " + std::to_string(kMaxTokens - 1), std::to_string(id));
  }
  const auto index = static_cast<std::size_t>(id);
  if (index < size() && entries_[index].bytes != 0) {
    fail("two tokens have the same id", "each id once", std::to_string(id) + ", which is " + Quoted(Text(Id(index))));
  }
  if (text.empty()) fail("a token has no text", "at least one character", "id " + std::to_string(id));
  if (Utf8Prefix(text) != text.size()) fail("a token's text is not UTF-8", "UTF-8", "id " + std::to_string(id));
  if (text.size() > std::numeric_limits<std::uint32_t>::max() - pool_.size()) {
    fail("the tokens have too much text", "under 4 GiB", "more");
  }
  if (index >= size()) entries_.resize(index + 1);
  const TokenKind kind = ByteNamed(text) < 0 ? TokenKind::kNormal : TokenKind::kByte;
  entries_[index] = {static_cast<std::uint32_t>(pool_.size()), static_cast<std::uint32_t>(text.size()), kind};
  pool_.append(text);
  waiting_.push_back(static_cast<std::uint32_t>(index));
}

void Vocabulary::Index() {
  const std::uint32_t second = table_.Insert(
      waiting_, [&](std::uint32_t i) { return HashOf(Text(Id(i))); },
      [&](std::uint32_t i, std::uint32_t j) { return Text(Id(i)) == Text(Id(j)); });
  if (second != IndexTable::kNone) {
    const std::string_view text = Text(Id(second));
    throw FormatError("two tokens have the same text",
                      {.file = file_,
                       .tensor = Quoted(text),
                       .expected = "each text once",
                       .found = "ids " + std::to_string(Find(text)) + " and " + std::to_string(second)});
  }
  waiting_ = {};
}

void Vocabulary::Finish() {
  for (std::size_t i = 0; i < size(); ++i) {
    if (entries_[i].bytes != 0) continue;
    throw FormatError("a token id is left out", {.file = file_,
                                                 .expected = "every id from 0 to " + std::to_string(size() - 1),
                                                 .found = "no token with id " + std::to_string(i)});
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_tokens_[byte] = Find(ByteName(byte));
    if (byte_tokens_[byte] != kNoToken) continue;
    throw UnsupportedError("a vocabulary without tokens for all bytes",
                           "Use the tokenizer published with a Gemma checkpoint.",
                           {.file = file_, .expected = ByteName(byte), .found = "no such token"});
  }
  pool_.shrink_to_fit();
  entries_.shrink_to_fit();
}

// The slot of a text, its entry, and the entry's text lie at random places of memory. Each is asked for before any of
// its kind is read. All in one function: GCC drops calls of functions that do nothing but ask for memory.
void Vocabulary::FindAll(std::span<const std::string_view> texts, std::span<TokenId> ids) const {
  std::vector<std::uint32_t> hashes(texts.size()), first(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    hashes[i] = HashOf(texts[i]);
    table_.Prefetch(hashes[i]);
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    first[i] = table_.FindFirst(hashes[i]);
    if (first[i] != IndexTable::kNone) __builtin_prefetch(&entries_[first[i]]);
  }
  for (const std::uint32_t place : first) {
    if (place != IndexTable::kNone) __builtin_prefetch(Text(Id(place)).data());
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const bool found = first[i] != IndexTable::kNone && Text(Id(first[i])) == texts[i];
    ids[i] = found ? Id(first[i]) : Find(texts[i], hashes[i]);
  }
}

std::vector<TokenId> Vocabulary::OfKind(TokenKind kind) const {
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < size(); ++i) {
    if (entries_[i].kind == kind) ids.push_back(Id(i));
  }
  return ids;
}

}  // namespace gemmule
