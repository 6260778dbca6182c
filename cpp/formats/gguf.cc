#include "formats/gguf.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "formats/json.h"
#include "formats/stand_in.h"
#include "quant/encoding.h"

namespace gemmule {
namespace {

constexpr char kMagic[] = {'G', 'G', 'U', 'F'};
constexpr std::uint32_t kOldestVersion = 2;
constexpr std::uint32_t kNewestVersion = 3;
constexpr std::uint64_t kMaxDimensions = 4;      // of a tensor; the format's own limit
constexpr std::uint64_t kMaxKeyBytes = 65'535;   // likewise
constexpr std::uint64_t kMaxNameBytes = 64;      // of a tensor's name; likewise
constexpr std::uint64_t kDefaultAlignment = 32;  // bytes
// The fewest bytes a key with its value takes (length, one letter, type, one byte), and a tensor's description (length,
// one letter, number of dimensions, type, offset): a file of n bytes cannot hold more of them.
constexpr std::uint64_t kLeastValueBytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t kLeastTensorBytes = 8 + 1 + 4 + 4 + 8;
constexpr std::uint64_t kMaxCount = std::uint64_t{1} << 16;    // of keys and of tensors: far above every model's
constexpr std::uint64_t kMaxStrings = std::uint64_t{1} << 21;  // of an array: Gemma has half a million merges
constexpr char kOtherTypes[] = "Take the same model as Q4_0, Q8_0, Q4_K_M, Q5_K_M, F16 or BF16.";

struct ValueType {
  std::string_view name;
  std::uint64_t bytes;  // 0: not of one size
};

constexpr ValueType kValueTypes[] = {{"u8", 1},  {"i8", 1},  {"u16", 2},  {"i16", 2},    {"u32", 4},
                                     {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0}, {"array", 0},
                                     {"u64", 8}, {"i64", 8}, {"f64", 8}};

const ValueType& Info(GgufType type) { return kValueTypes[static_cast<std::size_t>(type)]; }

// How a tensor's elements are stored: rows are whole blocks.
struct ElementType {
  std::uint32_t number;
  std::string_view name;
  DType dtype;
  std::uint64_t block_elements;
  std::uint64_t block_bytes;  // 0: known by name only
};

constexpr ElementType Blocks(std::uint32_t number, std::string_view name, DType dtype, Encoding encoding) {
  return {number, name, dtype, BlockElements(encoding), BlockBytes(encoding)};
}
constexpr ElementType Plain(std::uint32_t number, std::string_view name, DType dtype, std::uint64_t bytes) {
  return {number, name, dtype, 1, bytes};
}
constexpr ElementType NameOnly(std::uint32_t number, std::string_view name) {
  return {number, name, DType::kOther, 0, 0};
}

constexpr ElementType kElementTypes[] = {
    Blocks(0, "F32", DType::kF32, Encoding::kF32),
    Blocks(1, "F16", DType::kF16, Encoding::kF16),
    Blocks(30, "BF16", DType::kBF16, Encoding::kBF16),
    Blocks(2, "Q4_0", DType::kQ4_0, Encoding::kQ4_0),
    Blocks(3, "Q4_1", DType::kQ4_1, Encoding::kQ4_1),
    Blocks(6, "Q5_0", DType::kQ5_0, Encoding::kQ5_0),
    Blocks(7, "Q5_1", DType::kQ5_1, Encoding::kQ5_1),
    Blocks(8, "Q8_0", DType::kQ8_0, Encoding::kQ8_0),
    Blocks(12, "Q4_K", DType::kQ4_K, Encoding::kQ4_K),
    Blocks(13, "Q5_K", DType::kQ5_K, Encoding::kQ5_K),
    Blocks(14, "Q6_K", DType::kQ6_K, Encoding::kQ6_K),
    Plain(24, "I8", DType::kI8, 1),
    Plain(25, "I16", DType::kOther, 2),
    Plain(26, "I32", DType::kI32, 4),
    Plain(27, "I64", DType::kI64, 8),
    Plain(28, "F64", DType::kOther, 8),
    NameOnly(9, "Q8_1"),
    NameOnly(10, "Q2_K"),
    NameOnly(11, "Q3_K"),
    NameOnly(15, "Q8_K"),
    NameOnly(16, "IQ2_XXS"),
    NameOnly(17, "IQ2_XS"),
    NameOnly(18, "IQ3_XXS"),
    NameOnly(19, "IQ1_S"),
    NameOnly(20, "IQ4_NL"),
    NameOnly(21, "IQ3_S"),
    NameOnly(22, "IQ2_S"),
    NameOnly(23, "IQ4_XS"),
    NameOnly(29, "IQ1_M"),
    NameOnly(34, "TQ1_0"),
    NameOnly(35, "TQ2_0"),
    NameOnly(39, "MXFP4"),
};

template <class T>
T Load(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
}

// The file's bytes one field after another.
class Reader {
 public:
  explicit Reader(const MappedFile& file) : file_(file) {}

  std::uint64_t at() const { return at_; }
  std::uint64_t left() const { return file_.size() - at_; }

  // `name` says in messages whose bytes these are.
  std::span<const std::byte> Take(std::uint64_t count, const std::string& name, const char* what) {
    if (count > left()) {
      Fail("the file ends inside of " + std::string(what), name, std::to_string(count) + " bytes",
           std::to_string(left()));
    }
    const auto bytes = file_.bytes().subspan(static_cast<std::size_t>(at_), static_cast<std::size_t>(count));
    at_ += count;
    return bytes;
  }

  template <class T>
  T Number(const std::string& name, const char* what) {
    return Load<T>(Take(sizeof(T), name, what));
  }

  // A string that names something.
  std::string Name(std::uint64_t most, const std::string& whose) {
    const std::uint64_t start = at_;
    const auto length = Number<std::uint64_t>(whose, "the length of a name");
    if (length == 0 || length > most) {
      FailAt(start, "a name of a wrong length", whose, "1 to " + std::to_string(most) + " bytes",
             std::to_string(length));
    }
    const auto bytes = Take(length, whose, "a name");
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (!IsPrintable(text)) FailAt(start, "a name that is not text", whose, "printable ASCII", Quoted(text));
    return std::string(text);
  }

  [[noreturn]] void Fail(const std::string& what, const std::string& name, std::string expected,
                         std::string found) const {
    FailAt(at_, what, name, std::move(expected), std::move(found));
  }
  [[noreturn]] void FailAt(std::uint64_t offset, const std::string& what, const std::string& name, std::string expected,
                           std::string found) const {
    throw FormatError(what, {.file = file_.path(),
                             .tensor = name,
                             .offset = offset,
                             .expected = std::move(expected),
                             .found = std::move(found)});
  }
  [[noreturn]] void RefuseAt(std::uint64_t offset, const std::string& what, const std::string& remedy,
                             const std::string& name, std::string expected, std::string found) const {
    throw UnsupportedError(what, remedy,
                           {.file = file_.path(),
                            .tensor = name,
                            .offset = offset,
                            .expected = std::move(expected),
                            .found = std::move(found)});
  }

  const MappedFile& file() const { return file_; }

 private:
  const MappedFile& file_;
  std::uint64_t at_ = 0;
};

// What a file without our magic number is, for the message.
std::string OtherFormat(const MappedFile& file) {
  const auto bytes = file.bytes();
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 16));
  if (head.size() > 8 && head[8] == '{') return "a safetensors file";
  if (head.starts_with("PK\x03\x04")) return "a ZIP archive, maybe a PyTorch pickle";
  if (head.starts_with("lmgg") || head.starts_with("fmgg") || head.starts_with("tjgg")) {
    return "a file of the format before GGUF";
  }
  return Quoted(head.substr(0, sizeof kMagic));
}

struct Header {
  std::uint64_t tensors;
  std::uint64_t values;
};

Header ReadHeader(Reader& reader) {
  if (!IsGguf(reader.file())) {
    throw FormatError("this is no GGUF file",
                      {.file = reader.file().path(),
                       .offset = 0,
                       .expected = "\"GGUF\" as its first bytes",
                       .found = OtherFormat(reader.file())},
                      "Load a GGUF file, or the folder that holds a model's config.json and safetensors files.");
  }
  reader.Take(sizeof kMagic, "", "the header");
  const std::uint64_t start = reader.at();
  const auto version = reader.Number<std::uint32_t>("", "the header");
  if (version < kOldestVersion || version > kNewestVersion) {
    const bool swapped = (version & 0xFFFF) == 0 && version != 0;
    reader.RefuseAt(start, "this version of GGUF is not read", "Write the file anew with a current llama.cpp.", "",
                    "version 2 or 3, little-endian",
                    swapped ? "a big-endian file" : "version " + std::to_string(version));
  }
  Header header;
  header.tensors = reader.Number<std::uint64_t>("", "the header");
  header.values = reader.Number<std::uint64_t>("", "the header");
  const std::uint64_t most_tensors = std::min(kMaxCount, reader.left() / kLeastTensorBytes);
  if (header.tensors > most_tensors) {
    reader.FailAt(8, "more tensors than the file has room for", "", std::to_string(most_tensors) + " at most",
                  std::to_string(header.tensors));
  }
  const std::uint64_t most_values = std::min(kMaxCount, reader.left() / kLeastValueBytes);
  if (header.values > most_values) {
    reader.FailAt(16, "more keys than the file has room for", "", std::to_string(most_values) + " at most",
                  std::to_string(header.values));
  }
  return header;
}

GgufType ReadType(Reader& reader, const std::string& key) {
  const std::uint64_t start = reader.at();
  const auto number = reader.Number<std::uint32_t>(key, "a value's type");
  if (number >= std::size(kValueTypes)) {
    reader.FailAt(start, "an unknown type of value", key, "0 to " + std::to_string(std::size(kValueTypes) - 1),
                  std::to_string(number));
  }
  return static_cast<GgufType>(number);
}

// Goes over `count` values of one type and returns their bytes.
std::span<const std::byte> TakeValues(Reader& reader, const std::string& key, GgufType type, std::uint64_t count) {
  const std::uint64_t start = reader.at();
  const std::uint64_t least = type == GgufType::kString ? sizeof(std::uint64_t) : Info(type).bytes;
  if (count > reader.left() / least) {
    reader.Fail("the array is longer than the file", key, std::to_string(reader.left() / least) + " elements at most",
                std::to_string(count));
  }
  if (type == GgufType::kString) {
    if (count > kMaxStrings) {
      reader.Fail("too many strings", key, std::to_string(kMaxStrings) + " at most", std::to_string(count));
    }
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto length = reader.Number<std::uint64_t>(key, "the length of a string");
      reader.Take(length, key, "a string");
    }
  } else {
    const auto bytes = reader.Take(*CheckedMul(count, least), key, "a value");  // count is at most left / least
    if (type == GgufType::kBool) {
      const auto wrong = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; });
      if (wrong != bytes.end()) {
        reader.FailAt(start + static_cast<std::uint64_t>(wrong - bytes.begin()),
                      "a flag that is neither true nor false", key, "0 or 1",
                      std::to_string(std::to_integer<int>(*wrong)));
      }
    }
  }
  return reader.file().bytes().subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(reader.at() - start));
}

GgufValue ReadValue(Reader& reader, std::uint64_t number) {
  std::string key = reader.Name(kMaxKeyBytes, "key " + std::to_string(number));
  GgufType type = ReadType(reader, key);
  const bool is_array = type == GgufType::kArray;
  std::uint64_t count = 1;
  if (is_array) {
    const std::uint64_t start = reader.at();
    type = ReadType(reader, key);
    if (type == GgufType::kArray) {
      reader.RefuseAt(start, "arrays of arrays are not read", "Leave this key out of the file.", key,
                      "an array of numbers, flags or strings", "an array of arrays");
    }
    count = reader.Number<std::uint64_t>(key, "an array's length");
  }
  const auto bytes = TakeValues(reader, key, type, count);
  return GgufValue(reader.file(), std::move(key), type, is_array, count, bytes);
}

std::uint64_t ReadAlignment(const GgufMetadata& metadata) {
  const GgufValue* const value = metadata.Find("general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  const std::int64_t alignment = value->Int();
  if (alignment <= 0 || (alignment & (alignment - 1)) != 0) {
    value->Fail("a wrong alignment", "a power of two");
  }
  return static_cast<std::uint64_t>(alignment);
}

const ElementType& ReadElementType(Reader& reader, const std::string& name) {
  const std::uint64_t start = reader.at();
  const auto number = reader.Number<std::uint32_t>(name, "a tensor's type");
  const auto known = std::find_if(std::begin(kElementTypes), std::end(kElementTypes),
                                  [&](const ElementType& type) { return type.number == number; });
  if (known == std::end(kElementTypes) || known->block_bytes == 0) {
    reader.RefuseAt(start, "this type of tensor is not read", kOtherTypes, name,
                    "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K",
                    known == std::end(kElementTypes) ? "type " + std::to_string(number) : std::string(known->name));
  }
  return *known;
}

// The sizes, outermost first: the file has the innermost first.
std::vector<std::uint64_t> ReadShape(Reader& reader, const std::string& name) {
  const std::uint64_t start = reader.at();
  const auto count = reader.Number<std::uint32_t>(name, "a tensor's description");
  if (count > kMaxDimensions) {
    reader.FailAt(start, "too many dimensions", name, std::to_string(kMaxDimensions) + " at most",
                  std::to_string(count));
  }
  std::vector<std::uint64_t> shape(count);
  for (std::uint64_t& size : shape) {
    size = reader.Number<std::uint64_t>(name, "a tensor's description");
    if (size == 0) reader.FailAt(reader.at() - sizeof size, "a dimension of no size", name, "1 or more", "0");
  }
  std::reverse(shape.begin(), shape.end());
  return shape;
}

// Bytes of a tensor whose rows are whole blocks.
std::uint64_t CountBytes(const Reader& reader, const TensorView& tensor, const ElementType& type) {
  const std::uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % type.block_elements != 0) {
    reader.Fail(
        "rows that are not whole blocks", tensor.name,
        "rows of a multiple of " + std::to_string(type.block_elements) + " elements, for " + std::string(type.name),
        std::to_string(row));
  }
  std::optional<std::uint64_t> bytes = CheckedMul(row / type.block_elements, type.block_bytes);
  for (std::size_t i = 0; bytes && i + 1 < tensor.shape.size(); ++i) bytes = CheckedMul(*bytes, tensor.shape[i]);
  if (!bytes) reader.Fail("the shape's bytes cannot be counted", tensor.name, "bytes that fit 64 bits", "more");
  return *bytes;
}

// A description, before the place of the tensors' bytes is known.
struct Described {
  TensorView tensor;               // without its bytes; `offset` from the start of the data
  std::uint64_t bytes = 0;         // its size
  std::uint64_t described_at = 0;  // of its offset, from the file's start
};

Described ReadDescription(Reader& reader, std::uint64_t number) {
  Described described;
  TensorView& tensor = described.tensor;
  tensor.name = reader.Name(kMaxNameBytes, "tensor " + std::to_string(number));
  tensor.shape = ReadShape(reader, tensor.name);
  const ElementType& type = ReadElementType(reader, tensor.name);
  tensor.dtype = type.dtype;
  tensor.dtype_name = type.name;
  described.bytes = CountBytes(reader, tensor, type);
  described.described_at = reader.at();
  tensor.offset = reader.Number<std::uint64_t>(tensor.name, "a tensor's description");
  return described;
}

void RefuseTwice(const Reader& reader, const std::vector<Described>& described) {
  std::vector<const Described*> by_name;
  for (const Described& each : described) by_name.push_back(&each);
  std::sort(by_name.begin(), by_name.end(),
            [](const Described* a, const Described* b) { return a->tensor.name < b->tensor.name; });
  const auto twice = std::adjacent_find(by_name.begin(), by_name.end(), [](const Described* a, const Described* b) {
    return a->tensor.name == b->tensor.name;
  });
  if (twice == by_name.end()) return;
  const auto [first, second] = std::minmax((*twice)->described_at, (*std::next(twice))->described_at);
  static_cast<void>(first);
  reader.FailAt(second, "the tensor stands twice", (*twice)->tensor.name, "each tensor once", "one more");
}

// Gives each tensor its bytes. They lie one after another, each at the next aligned place, and end with the file.
void Place(const Reader& reader, std::vector<Described>& described, std::uint64_t alignment) {
  const MappedFile& file = reader.file();
  const auto data_start = CheckedAlign(reader.at(), alignment);
  if (!described.empty() && (!data_start || *data_start > file.size())) {
    reader.Fail("the file ends before the tensors' bytes", "",
                "bytes at the next multiple of " + std::to_string(alignment),
                "a file of " + std::to_string(file.size()) + " bytes");
  }
  std::vector<Described*> by_offset;
  for (Described& each : described) by_offset.push_back(&each);
  std::sort(by_offset.begin(), by_offset.end(),
            [](const Described* a, const Described* b) { return a->tensor.offset < b->tensor.offset; });

  std::uint64_t covered = 0;  // bytes of the data that belong to tensors
  for (Described* const each : by_offset) {
    TensorView& tensor = each->tensor;
    const auto fail = [&](const std::string& what, std::string expected, std::string found) {
      reader.FailAt(each->described_at, what, tensor.name, std::move(expected), std::move(found));
    };
    const std::string offset = "an offset of " + std::to_string(tensor.offset);
    if (tensor.offset % alignment != 0) {
      fail("the tensor is not aligned", "a multiple of " + std::to_string(alignment), offset);
    }
    const auto next = CheckedAlign(covered, alignment);
    if (!next || tensor.offset != *next) {
      fail(tensor.offset < covered ? "the tensor overlaps another one" : "bytes before the tensor belong to none",
           next ? "an offset of " + std::to_string(*next) : "an offset that fits 64 bits", offset);
    }
    const auto end = CheckedAdd(tensor.offset, each->bytes);
    if (!end || *end > file.size() - *data_start) {
      fail("the tensor lies outside the file",
           "at most " + std::to_string(file.size() - *data_start) + " bytes of all tensors",
           std::to_string(each->bytes) + " bytes at " + offset);
    }
    covered = *end;
    tensor.offset += *data_start;
    tensor.bytes = file.bytes().subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(each->bytes));
  }
  const std::uint64_t used = described.empty() ? reader.at() : *data_start + covered;
  const auto end = CheckedAlign(used, alignment);
  if (end && file.size() > *end) {
    reader.FailAt(*end, "bytes after the last tensor belong to none", "",
                  "a file of at most " + std::to_string(*end) + " bytes", std::to_string(file.size()));
  }
}

}  // namespace

std::string GgufValue::TypeName() const {
  const std::string name(Info(type_).name);
  return is_array_ ? "array of " + std::to_string(count_) + " " + name : name;
}

void GgufValue::Fail(const std::string& what, std::string expected) const {
  const bool is_float = IsOne(GgufType::kF32) || IsOne(GgufType::kF64);
  const std::string number = is_float                ? std::to_string(Number())
                             : IsOne(GgufType::kU64) ? std::to_string(Unsigned())
                                                     : std::to_string(Int());
  Fail(what, std::move(expected), TypeName() + " " + number);
}

void GgufValue::Fail(const std::string& what, std::string expected, std::string found) const {
  throw FormatError(
      what,
      {.file = file(), .tensor = key_, .offset = offset(), .expected = std::move(expected), .found = std::move(found)});
}

std::int64_t GgufValue::Int() const {
  if (!is_array_) {
    switch (type_) {
      case GgufType::kU8: return Load<std::uint8_t>(bytes_);
      case GgufType::kI8: return Load<std::int8_t>(bytes_);
      case GgufType::kU16: return Load<std::uint16_t>(bytes_);
      case GgufType::kI16: return Load<std::int16_t>(bytes_);
      case GgufType::kU32: return Load<std::uint32_t>(bytes_);
      case GgufType::kI32: return Load<std::int32_t>(bytes_);
      case GgufType::kI64: return Load<std::int64_t>(bytes_);
      case GgufType::kU64: {
        const auto value = Load<std::int64_t>(bytes_);
        if (value < 0) Fail("a number is out of range", "a number that a signed 64-bit integer holds");
        return value;
      }
      default: break;
    }
  }
  Fail("a value of the wrong type", "an integer", TypeName());
}

std::uint64_t GgufValue::Unsigned() const {
  if (!IsOne(GgufType::kU64)) Fail("a value of the wrong type", "u64", TypeName());
  return Load<std::uint64_t>(bytes_);
}

double GgufValue::Number() const {
  if (IsOne(GgufType::kF32)) return Load<float>(bytes_);
  if (IsOne(GgufType::kF64)) return Load<double>(bytes_);
  if (IsOne(GgufType::kU64)) return static_cast<double>(Unsigned());
  if (is_array_ || type_ == GgufType::kBool || type_ == GgufType::kString) {
    Fail("a value of the wrong type", "a number", TypeName());
  }
  return static_cast<double>(Int());
}

bool GgufValue::Bool() const {
  if (!IsOne(GgufType::kBool)) Fail("a value of the wrong type", "a flag", TypeName());
  return bytes_[0] != std::byte{0};
}

std::string_view GgufValue::String() const {
  if (!IsOne(GgufType::kString)) Fail("a value of the wrong type", "a string", TypeName());
  const auto text = bytes_.subspan(sizeof(std::uint64_t));
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

GgufValue GgufValue::Child(std::size_t index) const {
  if (!is_array_ || type_ == GgufType::kString) {
    Fail("a value of the wrong type", "an array of numbers or flags", TypeName());
  }
  const auto bytes = static_cast<std::size_t>(Info(type_).bytes);
  return GgufValue(*file_, key_ + "[" + std::to_string(index) + "]", type_, false, 1,
                   bytes_.subspan(index * bytes, bytes));
}

// One child takes the place of all: to name each of a vocabulary would take longer than all else that is done with it.
template <class T>
std::vector<T> GgufValue::Children(T (GgufValue::*value)() const) const {
  std::vector<T> values(size());
  if (values.empty()) return values;
  GgufValue child = Child(0);
  child.key_ = key_;
  for (std::size_t i = 0; i < values.size(); ++i) {
    child.bytes_ = bytes_.subspan(i * child.bytes_.size(), child.bytes_.size());
    values[i] = (child.*value)();
  }
  return values;
}

std::vector<std::int64_t> GgufValue::Ints() const { return Children(&GgufValue::Int); }
std::vector<double> GgufValue::Numbers() const { return Children(&GgufValue::Number); }

std::vector<std::string_view> GgufValue::Strings() const {
  if (!is_array_ || type_ != GgufType::kString) {
    Fail("a value of the wrong type", "an array of strings", TypeName());
  }
  std::vector<std::string_view> strings;
  strings.reserve(size());
  auto left = bytes_;
  for (std::size_t i = 0; i < size(); ++i) {
    // All of them were whole when the file was opened; another program may have written into it since.
    const bool has_length = left.size() >= sizeof(std::uint64_t);
    const auto length = has_length ? Load<std::uint64_t>(left) : 0;
    if (!has_length || length > left.size() - sizeof length) {
      Fail("the file has changed since it was opened", "the strings that were there", "one that is longer");
    }
    left = left.subspan(sizeof length);
    strings.emplace_back(reinterpret_cast<const char*>(left.data()), length);
    left = left.subspan(length);
  }
  return strings;
}

GgufMetadata::GgufMetadata(const MappedFile& file, std::vector<GgufValue> values)
    : path_(file.path()), values_(std::move(values)) {
  // Stable: of two equal keys the later one stays the later one, which is the one to blame.
  std::stable_sort(values_.begin(), values_.end(), [](const auto& a, const auto& b) { return a.key() < b.key(); });
  const auto twice = std::adjacent_find(values_.begin(), values_.end(),
                                        [](const auto& a, const auto& b) { return a.key() == b.key(); });
  if (twice != values_.end()) std::next(twice)->Fail("the key stands twice", "each key once", "one more");
}

const GgufValue* GgufMetadata::Find(std::string_view key) const {
  const auto at = std::lower_bound(values_.begin(), values_.end(), key,
                                   [](const GgufValue& value, std::string_view want) { return value.key() < want; });
  return at != values_.end() && at->key() == key ? &*at : nullptr;
}

const GgufValue& GgufMetadata::At(std::string_view key) const {
  const GgufValue* const value = Find(key);
  if (value != nullptr) return *value;
  throw FormatError("a key is missing",
                    {.file = path_, .tensor = std::string(key), .expected = "it", .found = "no key of this name"});
}

bool IsGguf(const MappedFile& file) {
  return file.size() >= sizeof kMagic && std::memcmp(file.bytes().data(), kMagic, sizeof kMagic) == 0;
}

GgufFile ReadGguf(const MappedFile& file, std::size_t file_index) {
  RefuseStandIn(file);
  Reader reader(file);
  const Header header = ReadHeader(reader);

  std::vector<GgufValue> values;
  for (std::uint64_t i = 0; i < header.values; ++i) values.push_back(ReadValue(reader, i));
  GgufFile result;
  result.metadata = GgufMetadata(file, std::move(values));

  std::vector<Described> described;
  for (std::uint64_t i = 0; i < header.tensors; ++i) described.push_back(ReadDescription(reader, i));
  RefuseTwice(reader, described);
  Place(reader, described, ReadAlignment(result.metadata));
  for (Described& each : described) {
    each.tensor.file = file_index;
    result.tensors.push_back(std::move(each.tensor));
  }
  return result;
}

}  // namespace gemmule
