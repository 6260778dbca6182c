#include "formats/json.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/error.h"
#include "base/printable.h"
#include "formats/mapped_file.h"
#include "formats/stand_in.h"

namespace gemmule {
namespace {

// Key paths in messages stay readable: a key is cut after this many bytes.
constexpr std::size_t kShownBytes = 120;

std::string Shown(std::string_view text) { return Printable(text, kShownBytes); }

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
  JsonReader reader(text, file, offset);
  std::size_t left = kMaxJsonValues;
  JsonValue value = ReadJsonValue(reader, left);
  reader.End();
  return value;
}

JsonValue ReadJsonValue(JsonReader& reader, std::size_t& left) {
  const char c = reader.Next();
  if (left == 0) reader.Fail("too many JSON values", "fewer of them in one place", "one more");
  --left;
  JsonValue value;
  value.offset = reader.offset();
  switch (c) {
    case '{': return ReadJsonObject(reader, [&](const std::string&) { return ReadJsonValue(reader, left); });
    case '[': {
      JsonValue::Array elements;
      reader.Array([&] { elements.push_back(ReadJsonValue(reader, left)); });
      value.data = std::move(elements);
      break;
    }
    case '"': value.data = std::string(reader.String()); break;
    case 't':
    case 'f': value.data = reader.Bool(); break;
    case 'n': reader.Null(); break;
    default: std::visit([&](auto number) { value.data = number; }, reader.Number());
  }
  return value;
}

// Sorted by hash, and by key only where hashes are equal: fast, and no choice of keys makes it quadratic.
void RefuseDuplicateKeys(const JsonValue::Object& members, const std::string& file, std::uint64_t offset) {
  std::vector<std::pair<std::size_t, std::string_view>> keys;
  keys.reserve(members.size());
  for (const JsonMember& member : members) keys.emplace_back(std::hash<std::string_view>()(member.key), member.key);
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice == keys.end()) return;
  throw FormatError("a key stands twice in one JSON object",
                    {.file = file, .offset = offset, .expected = "each key once", .found = Quoted(twice->second)});
}

JsonValue ReadJsonFile(const std::string& path) {
  const MappedFile file = MappedFile::Open(path);
  RefuseStandIn(file);
  if (file.size() > kMaxJsonBytes) {
    throw FormatError("the file is longer than any of its kind",
                      {.file = path,
                       .expected = std::to_string(kMaxJsonBytes) + " bytes at most",
                       .found = std::to_string(file.size()) + " bytes"});
  }
  JsonValue value = ParseJson({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path);
  file.CheckWhole();
  return value;
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

void JsonCursor::Refuse(const std::string& what, const std::string& remedy, std::string expected) const {
  Refuse(what, remedy, std::move(expected), Describe(*value_));
}

void JsonCursor::Refuse(const std::string& what, const std::string& remedy, std::string expected,
                        std::string found) const {
  throw UnsupportedError(what, remedy,
                         {.file = file_,
                          .tensor = path_,
                          .offset = value_->offset,
                          .expected = std::move(expected),
                          .found = std::move(found)});
}

}  // namespace gemmule
