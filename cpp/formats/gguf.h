// The GGUF format, versions 2 and 3 in little-endian bytes: "GGUF", u32 version, u64 number of tensors, u64 number of
// keys, the keys with their values (metadata), the descriptions of the tensors, and their bytes. Strings are a u64
// length and that many bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "formats/mapped_file.h"

namespace gemmule {

// The format's own numbers.
enum class GgufType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// One value of the metadata, or an element of one: a view of the mapped file. Every accessor throws FormatError with
// file, key, offset, what it expected and what it found.
class GgufValue {
 public:
  GgufValue(const MappedFile& file, std::string key, GgufType type, bool is_array, std::uint64_t count,
            std::span<const std::byte> bytes)
      : file_(&file), key_(std::move(key)), type_(type), is_array_(is_array), count_(count), bytes_(bytes) {}

  const std::string& key() const { return key_; }
  GgufType type() const { return type_; }  // of the elements, where it is an array
  bool IsArray() const { return is_array_; }
  std::size_t size() const { return static_cast<std::size_t>(count_); }  // elements of an array; 1 for all else

  std::int64_t Int() const;        // of any integer type
  std::uint64_t Unsigned() const;  // of u64
  double Number() const;           // of any integer or float type
  bool Bool() const;
  std::string_view String() const;  // any bytes: nobody has checked that they are UTF-8

  // Of an array of numbers or flags; index < size().
  GgufValue Child(std::size_t index) const;
  // Of a long array of numbers: each child's Int or Number. Messages have the array's key and the child's offset.
  std::vector<std::int64_t> Ints() const;
  std::vector<double> Numbers() const;
  // Of an array of strings.
  std::vector<std::string_view> Strings() const;

  const std::string& file() const { return file_->path(); }
  // Bytes from the file's start.
  std::uint64_t offset() const { return static_cast<std::uint64_t>(bytes_.data() - file_->bytes().data()); }
  // "u32", "string", "array of 3 i32"
  std::string TypeName() const;

  // Throws the FormatError that names this value. Without `found`, what was found is the value itself: a number.
  [[noreturn]] void Fail(const std::string& what, std::string expected) const;
  [[noreturn]] void Fail(const std::string& what, std::string expected, std::string found) const;

 private:
  bool IsOne(GgufType type) const { return !is_array_ && type_ == type; }
  template <class T>
  std::vector<T> Children(T (GgufValue::*value)() const) const;

  const MappedFile* file_;
  std::string key_;
  GgufType type_;
  bool is_array_;
  std::uint64_t count_;
  std::span<const std::byte> bytes_;  // of the value; of an array's elements
};

class GgufMetadata {
 public:
  GgufMetadata() = default;
  // Throws FormatError where a key stands twice.
  GgufMetadata(const MappedFile& file, std::vector<GgufValue> values);

  const GgufValue* Find(std::string_view key) const;                // null where the key is missing
  const GgufValue& At(std::string_view key) const;                  // throws FormatError where it is missing
  const std::vector<GgufValue>& values() const { return values_; }  // sorted by key

 private:
  std::string path_;
  std::vector<GgufValue> values_;
};

struct GgufFile {
  GgufMetadata metadata;
  std::vector<TensorView> tensors;  // in the file's order; each has `file_index` as its `file`
};

// True where the file says of itself that it is GGUF.
bool IsGguf(const MappedFile& file);

// All values and tensors of one file, which must outlive them. Throws FormatError for everything in which the file
// contradicts itself, UnsupportedError for versions and types that gemmule does not read.
GgufFile ReadGguf(const MappedFile& file, std::size_t file_index);

}  // namespace gemmule
