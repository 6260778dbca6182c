#include "formats/json_reader.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "base/utf8.h"
#include "formats/json.h"

namespace gemmule {
namespace {

constexpr int kMaxDepth = 64;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::string_view JsonReader::String() {
  Want(Next() == '"', "a string");
  ++at_;
  std::size_t start = at_;  // of what is not yet in escaped_
  bool plain = true;
  while (true) {
    while (at_ < text_.size()) {
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"' || c == '\\' || c < 0x20 || c >= 0x80) break;
      ++at_;
    }
    const char c = Peek();
    if (c == '"') {
      const std::string_view rest = text_.substr(start, at_++ - start);
      return plain ? rest : escaped_.append(rest);
    }
    if (c == '\\') {
      if (plain) escaped_.clear();
      plain = false;
      escaped_.append(text_, start, at_ - start);
      Escape();
      start = at_;
      continue;
    }
    if (at_ == text_.size()) Fail("a JSON string does not end", "a closing quote");
    if (static_cast<unsigned char>(c) < 0x20) Fail("a control character in a JSON string", "an escape such as \\n");
    const std::size_t bytes = Utf8Bytes(text_.substr(at_));
    if (bytes == 0) Fail("a JSON string is not UTF-8", "a UTF-8 character");
    at_ += bytes;
  }
}

void JsonReader::Escape() {
  const std::size_t start = at_++;  // the backslash
  const char c = Peek();
  static constexpr std::string_view kNames = "\"\\/bfnrt";
  static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (const std::size_t known = kNames.find(c); at_ < text_.size() && known != std::string_view::npos) {
    ++at_;
    escaped_.push_back(kMeanings[known]);
    return;
  }
  if (!Take('u')) Fail("an unknown escape in a JSON string", "one of \" \\ / b f n r t u");
  std::uint32_t code = Hex4();
  if (code >= 0xD800 && code <= 0xDFFF) {
    const bool high = code < 0xDC00;
    const std::uint32_t low = high && Take('\\') && Take('u') ? Hex4() : 0;
    if (low < 0xDC00 || low > 0xDFFF) {
      at_ = start;
      Fail("a lone surrogate in a JSON string", "a pair such as \\ud83d\\ude00");
    }
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  AppendUtf8(code, escaped_);
}

std::uint32_t JsonReader::Hex4() {
  std::uint32_t code = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = Peek();
    const int digit = IsDigit(c)               ? c - '0'
                      : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                      : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                               : -1;
    if (digit < 0) Fail("a broken \\u escape in a JSON string", "four hexadecimal digits");
    code = code << 4 | static_cast<std::uint32_t>(digit);
    ++at_;
  }
  return code;
}

std::variant<std::int64_t, double> JsonReader::Number() {
  Want(Next() == '-' || IsDigit(Peek()), "a number");
  const std::size_t start = at_;
  Take('-');
  if (!Take('0')) Digits();
  bool integer = true;
  if (Take('.')) {
    integer = false;
    Digits();
  }
  if (Peek() == 'e' || Peek() == 'E') {
    integer = false;
    ++at_;
    if (!Take('+')) Take('-');
    Digits();
  }
  const char* const first = text_.data() + start;
  const char* const last = text_.data() + at_;
  std::int64_t whole = 0;
  if (integer && std::from_chars(first, last, whole).ec == std::errc()) return whole;
  double real = 0.0;
  const auto result = std::from_chars(first, last, real);
  if (result.ec != std::errc()) {
    at_ = start;
    Fail("a JSON number is out of range", "a number that a double holds", Quoted({first, last}));
  }
  return real;
}

std::int64_t JsonReader::Int() {
  Want(Next() == '-' || IsDigit(Peek()), "an integer");
  const std::size_t start = at_;
  const auto number = Number();
  if (const auto* whole = std::get_if<std::int64_t>(&number)) return *whole;
  const std::string_view found = text_.substr(start, at_ - start);
  at_ = start;
  Fail("a JSON value of the wrong type", "an integer", Quoted(found));
}

bool JsonReader::Bool() {
  Next();
  const bool yes = TakeWord("true");
  Want(yes || TakeWord("false"), "true or false");
  return yes;
}

void JsonReader::Null() {
  Next();
  Want(TakeWord("null"), "null");
}

void JsonReader::Skip() {
  switch (Next()) {
    case '{': return Object([&](std::string_view) { Skip(); });
    case '[': return Array([&] { Skip(); });
    case '"': String(); return;
    case 't':
    case 'f': Bool(); return;
    case 'n': return Null();
    default: Number();
  }
}

void JsonReader::End() {
  SkipSpace();
  if (at_ != text_.size()) Fail("something follows the JSON value", "the end of the text");
}

void JsonReader::Open(char bracket, const char* type) {
  Want(Next() == bracket, type);
  if (depth_ == kMaxDepth) Fail("JSON nested too deeply", "at most " + std::to_string(kMaxDepth) + " levels");
  ++at_;
  ++depth_;
}

bool JsonReader::TakeComma(char closing) {
  SkipSpace();
  if (Take(',')) return true;
  if (Peek() != closing) Fail("not JSON", std::string("a comma or ") + closing);
  return false;
}

// A value of another type is one thing, text that is no value another.
void JsonReader::Want(bool right, const char* type) {
  if (right) return;
  const char c = Peek();
  const bool value = IsDigit(c) || (c != '\0' && std::string_view("{[\"tfn-").find(c) != std::string_view::npos);
  if (value) Fail("a JSON value of the wrong type", type);
  Fail("not JSON", "a value");
}

void JsonReader::Digits() {
  if (!IsDigit(Peek())) Fail("a broken JSON number", "a digit");
  while (IsDigit(Peek())) ++at_;
}

// Files written for people are mostly indentation: up to eight spaces are taken at once.
void JsonReader::SkipSpace() {
  while (true) {
    const char c = Peek();
    if (c != ' ' && c != '\n' && c != '\t' && c != '\r') return;
    ++at_;
    if (text_.size() - at_ < 8) continue;
    std::uint64_t next = 0;
    std::memcpy(&next, text_.data() + at_, 8);
    at_ += static_cast<std::size_t>(std::countr_zero(next ^ 0x2020202020202020)) / 8;
  }
}

bool JsonReader::TakeWord(std::string_view word) {
  if (text_.substr(at_, word.size()) != word) return false;
  at_ += word.size();
  return true;
}

void JsonReader::Fail(const std::string& what, std::string expected) const {
  const std::string_view rest = text_.substr(at_);
  Fail(what, std::move(expected),
       rest.empty() ? "the end of the text" : Quoted(rest.substr(0, std::max<std::size_t>(Utf8Bytes(rest), 1))));
}

void JsonReader::Fail(const std::string& what, std::string expected, std::string found) const {
  throw FormatError(what,
                    {.file = *file_, .offset = offset(), .expected = std::move(expected), .found = std::move(found)});
}

}  // namespace gemmule
