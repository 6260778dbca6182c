#include "formats/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <system_error>

#include "base/error.h"
#include "formats/mapped_file.h"
#include "formats/stand_in.h"

namespace gemmule {
namespace {

constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxValues = std::size_t{1} << 22;

// Bytes of the UTF-8 character at the start of `text` (not empty), 0 where there is none. Overlong forms, surrogates
// and code points above U+10FFFF are none (RFC 3629).
std::size_t Utf8Bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t size = lead >= 0xC2 && lead <= 0xDF ? 2 : lead >= 0xE0 && lead <= 0xEF ? 3 : 4;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char next = byte(1);
  if (lead == 0xE0 && next < 0xA0) return 0;  // overlong
  if (lead == 0xED && next > 0x9F) return 0;  // surrogate
  if (lead == 0xF0 && next < 0x90) return 0;  // overlong
  if (lead == 0xF4 && next > 0x8F) return 0;  // above U+10FFFF
  return size;
}

void AppendUtf8(std::uint32_t code, std::string& out) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Parser {
 public:
  Parser(std::string_view text, const std::string& file, std::uint64_t offset)
      : text_(text), file_(file), base_(offset) {}

  JsonValue Parse() {
    JsonValue value = Value(0);
    SkipSpace();
    if (at_ != text_.size()) Fail("something follows the JSON value", "the end of the text");
    return value;
  }

 private:
  // `depth`: arrays and objects around this value.
  JsonValue Value(int depth) {
    SkipSpace();
    if (++values_ > kMaxValues) Fail("too many JSON values", "at most " + std::to_string(kMaxValues));
    JsonValue value;
    value.offset = base_ + at_;
    const char c = Peek();
    if (c == '{' || c == '[') {
      if (depth == kMaxDepth) Fail("JSON nested too deeply", "at most " + std::to_string(kMaxDepth) + " levels");
      if (c == '{') {
        value.data = Object(depth + 1);
      } else {
        value.data = Array(depth + 1);
      }
    } else if (c == '"') {
      value.data = String();
    } else if (c == '-' || IsDigit(c)) {
      Number(value);
    } else if (TakeWord("true")) {
      value.data = true;
    } else if (TakeWord("false")) {
      value.data = false;
    } else if (!TakeWord("null")) {
      Fail("not JSON", "a value");
    }
    return value;
  }

  JsonValue::Array Array(int depth) {
    ++at_;  // [
    JsonValue::Array elements;
    SkipSpace();
    if (Take(']')) return elements;
    while (true) {
      elements.push_back(Value(depth));
      SkipSpace();
      if (Take(']')) return elements;
      if (!Take(',')) Fail("not JSON", "a comma or ]");
    }
  }

  JsonValue::Object Object(int depth) {
    const std::size_t start = at_++;  // {
    JsonValue::Object members;
    SkipSpace();
    if (Take('}')) return members;
    while (true) {
      SkipSpace();
      if (Peek() != '"') Fail("not JSON", "a key in double quotes");
      std::string key = String();
      SkipSpace();
      if (!Take(':')) Fail("not JSON", "a colon");
      members.push_back({std::move(key), Value(depth)});
      SkipSpace();
      if (Take('}')) break;
      if (!Take(',')) Fail("not JSON", "a comma or }");
    }
    RefuseDuplicates(members, start);
    return members;
  }

  // Sorted by hash, and by key only where hashes are equal: fast, and no choice of keys makes it quadratic.
  void RefuseDuplicates(const JsonValue::Object& members, std::size_t start) {
    std::vector<std::pair<std::size_t, std::string_view>> keys;
    keys.reserve(members.size());
    for (const JsonMember& member : members) keys.emplace_back(std::hash<std::string_view>()(member.key), member.key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice == keys.end()) return;
    throw FormatError(
        "a key stands twice in one JSON object",
        {.file = file_, .offset = base_ + start, .expected = "each key once", .found = Quoted(twice->second)});
  }

  std::string String() {
    ++at_;  // the opening quote
    std::string out;
    while (true) {
      const std::size_t start = at_;
      while (at_ < text_.size()) {
        const auto c = static_cast<unsigned char>(text_[at_]);
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x80) break;
        ++at_;
      }
      out.append(text_, start, at_ - start);
      const char c = Peek();
      if (c == '"') {
        ++at_;
        return out;
      }
      if (c == '\\') {
        Escape(out);
        continue;
      }
      if (at_ == text_.size()) Fail("a JSON string does not end", "a closing quote");
      if (static_cast<unsigned char>(c) < 0x20) Fail("a control character in a JSON string", "an escape such as \\n");
      const std::size_t bytes = Utf8Bytes(text_.substr(at_));
      if (bytes == 0) Fail("a JSON string is not UTF-8", "a UTF-8 character");
      out.append(text_, at_, bytes);
      at_ += bytes;
    }
  }

  void Escape(std::string& out) {
    const std::size_t start = at_++;  // the backslash
    const char c = Peek();
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (const std::size_t known = kNames.find(c); at_ < text_.size() && known != std::string_view::npos) {
      ++at_;
      out.push_back(kMeanings[known]);
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
    AppendUtf8(code, out);
  }

  std::uint32_t Hex4() {
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

  void Number(JsonValue& value) {
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
    if (integer && std::from_chars(first, last, whole).ec == std::errc()) {
      value.data = whole;
      return;
    }
    double real = 0.0;
    const auto result = std::from_chars(first, last, real);
    if (result.ec != std::errc() || !std::isfinite(real)) {
      at_ = start;
      Fail("a JSON number is out of range", "a number that a double holds", Quoted({first, last}));
    }
    value.data = real;
  }

  void Digits() {
    if (!IsDigit(Peek())) Fail("a broken JSON number", "a digit");
    while (IsDigit(Peek())) ++at_;
  }

  void SkipSpace() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  // The next character, or 0 at the end. A 0 byte in the text fits no rule either, so the two need no telling apart.
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool Take(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool TakeWord(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  [[noreturn]] void Fail(const std::string& what, std::string expected) const {
    const std::string_view rest = text_.substr(at_);
    Fail(what, std::move(expected),
         rest.empty() ? "the end of the text" : Quoted(rest.substr(0, std::max<std::size_t>(Utf8Bytes(rest), 1))));
  }

  [[noreturn]] void Fail(const std::string& what, std::string expected, std::string found) const {
    throw FormatError(
        what, {.file = file_, .offset = base_ + at_, .expected = std::move(expected), .found = std::move(found)});
  }

  const std::string_view text_;
  const std::string& file_;
  const std::uint64_t base_;  // of the text, in bytes from the file's start
  std::size_t at_ = 0;        // of the next character, in the text
  std::size_t values_ = 0;
};

// Key paths in messages stay readable: a key is cut after this many bytes.
constexpr std::size_t kShownBytes = 120;

// `text` cut to kShownBytes and with everything that is not printable UTF-8 written as \xNN.
std::string Shown(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (i >= kShownBytes) return out + "...";
    const std::size_t bytes = Utf8Bytes(text.substr(i));
    const auto c = static_cast<unsigned char>(text[i]);
    if (bytes == 0 || c < 0x20 || c == 0x7F) {
      out += {'\\', 'x', kHex[c >> 4], kHex[c & 0xF]};
      ++i;
    } else {
      out.append(text, i, bytes);
      i += bytes;
    }
  }
  return out;
}

// A value as messages show it.
std::string Describe(const JsonValue& value) {
  struct {
    std::string operator()(std::monostate) const { return "null"; }
    std::string operator()(bool flag) const { return flag ? "true" : "false"; }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const {
      char text[32];  // the shortest form of a double has at most 24 characters
      return {text, std::to_chars(text, text + sizeof(text), number).ptr};
    }
    std::string operator()(const std::string& text) const { return Quoted(text); }
    std::string operator()(const JsonValue::Array&) const { return "an array"; }
    std::string operator()(const JsonValue::Object&) const { return "an object"; }
  } text;
  return std::visit(text, value.data);
}

}  // namespace

JsonValue ParseJson(std::string_view text, const std::string& file, std::uint64_t offset) {
  return Parser(text, file, offset).Parse();
}

JsonValue ReadJsonFile(const std::string& path) {
  const MappedFile file = MappedFile::Open(path);
  RefuseStandIn(file);
  return ParseJson({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path);
}

std::string Quoted(std::string_view text) { return '"' + Shown(text) + '"'; }

template <typename T>
const T& JsonCursor::As(const char* kind) const {
  if (const T* held = std::get_if<T>(&value_->data)) return *held;
  Fail("a JSON value of the wrong type", kind);
}

bool JsonCursor::Bool() const { return As<bool>("true or false"); }
std::int64_t JsonCursor::Int() const { return As<std::int64_t>("an integer"); }
const std::string& JsonCursor::String() const { return As<std::string>("a string"); }
const JsonValue::Array& JsonCursor::Array() const { return As<JsonValue::Array>("an array"); }
const JsonValue::Object& JsonCursor::Object() const { return As<JsonValue::Object>("an object"); }

double JsonCursor::Number() const {
  if (const auto* whole = std::get_if<std::int64_t>(&value_->data)) return static_cast<double>(*whole);
  return As<double>("a number");
}

JsonCursor JsonCursor::At(std::string_view key) const {
  if (auto found = Find(key)) return *std::move(found);
  Fail("a key is missing", Quoted(key), "no such key");
}

std::optional<JsonCursor> JsonCursor::Find(std::string_view key) const {
  for (const JsonMember& member : Object()) {
    if (member.key == key) return Child(member);
  }
  return std::nullopt;
}

std::optional<JsonCursor> JsonCursor::FindNonNull(std::string_view key) const {
  auto found = Find(key);
  if (found && found->IsNull()) return std::nullopt;
  return found;
}

JsonCursor JsonCursor::Child(const JsonMember& member) const {
  return {member.value, file_, path_.empty() ? Shown(member.key) : path_ + '.' + Shown(member.key)};
}

JsonCursor JsonCursor::Child(std::size_t index) const {
  return {Array()[index], file_, path_ + '[' + std::to_string(index) + ']'};
}

void JsonCursor::Fail(const std::string& what, std::string expected) const {
  Fail(what, std::move(expected), Describe(*value_));
}

void JsonCursor::Fail(const std::string& what, std::string expected, std::string found) const {
  throw FormatError(what, {.file = file_,
                           .tensor = path_,
                           .offset = value_->offset,
                           .expected = std::move(expected),
                           .found = std::move(found)});
}

}  // namespace gemmule
