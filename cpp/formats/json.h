// A small strict JSON reader (RFC 8259). Refused: duplicate keys, more than 64 levels, text that is not UTF-8, lone
// surrogates, numbers beyond a double's range, comments, trailing commas, anything after the value, and trees of more
// than kMaxJsonValues values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "formats/json_reader.h"

namespace gemmule {

struct JsonMember;

// Where a value stands is kept beside it, so that whoever finds it wrong later can say so.
struct JsonValue {
  using Array = std::vector<JsonValue>;
  using Object = std::vector<JsonMember>;  // in the file's order

  // Integers that fit are int64, all other numbers double (always finite).
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> data;
  std::uint64_t offset = 0;  // bytes from the file's start

  bool IsNull() const { return std::holds_alternative<std::monostate>(data); }
};

struct JsonMember {
  std::string key;
  JsonValue value;
};

// A tree takes 48 bytes a value and more, whatever its text takes: a few bytes of a file must not become gigabytes. An
// index has one value a tensor, and a tokenizer.json without its vocabulary and merges 50,000.
inline constexpr std::size_t kMaxJsonValues = std::size_t{1} << 18;
inline constexpr std::uint64_t kMaxJsonBytes = std::uint64_t{1} << 24;  // of a file that becomes a tree

// Parses `text`, which starts `offset` bytes into `file` (the name for messages). Throws FormatError.
JsonValue ParseJson(std::string_view text, const std::string& file, std::uint64_t offset = 0);

// The next value of `reader` as a tree, which may have `left` values; `left` then says how many more there may be.
JsonValue ReadJsonValue(JsonReader& reader, std::size_t& left);

// Throws FormatError where a key stands twice. `offset`: the object's, in bytes from the file's start.
void RefuseDuplicateKeys(const JsonValue::Object& members, const std::string& file, std::uint64_t offset);

// The next value of `reader`, an object, as a tree: value_of(key) reads each member's value and returns its tree.
template <class ValueOf>
JsonValue ReadJsonObject(JsonReader& reader, const ValueOf& value_of) {
  reader.Next();
  const std::uint64_t offset = reader.offset();
  JsonValue::Object members;
  reader.Object([&](std::string_view key) {
    JsonMember member{std::string(key), {}};
    member.value = value_of(member.key);
    members.push_back(std::move(member));
  });
  RefuseDuplicateKeys(members, reader.file(), offset);
  return {std::move(members), offset};
}

// Parses a whole file. A download that left a Git LFS pointer or an HTML page in its place is named as such.
JsonValue ReadJsonFile(const std::string& path);

// A name or text from a file as messages show it: in double quotes, shortened, without control characters.
std::string Quoted(std::string_view text);

// A value and its path from the root ("text_config.layer_types[3]"). Every accessor throws FormatError with file, path,
// byte offset, what it expected and what it found. Does not own the value: keep the root while using it.
class JsonCursor {
 public:
  JsonCursor(const JsonValue& root, std::string file) : value_(&root), file_(std::move(file)) {}

  bool IsNull() const { return value_->IsNull(); }
  bool Bool() const;
  std::int64_t Int() const;  // 3.0 is not an integer here
  double Number() const;     // an integer or a double
  const std::string& String() const;
  const JsonValue::Array& Array() const;
  const JsonValue::Object& Object() const;

  // Of an object. Looks through the members one by one: meant for objects with few of them.
  JsonCursor At(std::string_view key) const;                          // throws where the key is missing
  std::optional<JsonCursor> Find(std::string_view key) const;         // nothing where the key is missing
  std::optional<JsonCursor> FindNonNull(std::string_view key) const;  // nothing where it is missing or null

  JsonCursor Child(const JsonMember& member) const;  // a member of Object()
  JsonCursor Child(std::size_t index) const;         // an element of Array()

  const std::string& file() const { return file_; }
  const std::string& path() const { return path_; }
  const JsonValue& value() const { return *value_; }

  // Throws the FormatError that names this value. Without `found`, the value itself is what was found.
  [[noreturn]] void Fail(const std::string& what, std::string expected) const;
  [[noreturn]] void Fail(const std::string& what, std::string expected, std::string found) const;
  // Likewise the UnsupportedError.
  [[noreturn]] void Refuse(const std::string& what, const std::string& remedy, std::string expected) const;
  [[noreturn]] void Refuse(const std::string& what, const std::string& remedy, std::string expected,
                           std::string found) const;

 private:
  JsonCursor(const JsonValue& value, std::string file, std::string path)
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}
  template <typename T>
  const T& As(const char* kind) const;

  const JsonValue* value_;
  std::string file_;
  std::string path_;  // empty at the root
};

}  // namespace gemmule
