#include "formats/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/checked.h"
#include "base/error.h"
#include "formats/json.h"
#include "formats/stand_in.h"

namespace gemmule {
namespace {

constexpr std::uint64_t kLengthBytes = 8;               // the header's length comes first, little-endian
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
// Ours, far above those of any checkpoint.
constexpr std::uint64_t kMostHeaderBytes = std::uint64_t{1} << 24;
constexpr std::size_t kMostTensors = std::size_t{1} << 15;
constexpr std::size_t kMostNameBytes = 1024;
constexpr std::size_t kMostEntryValues = 64;  // of one tensor's entry: a size each, and seven

struct Element {
  std::string_view name;
  DType dtype;
  std::uint64_t bits;
};

// All element types of the format (safetensors 0.6); those that gemmule computes with have a DType of their own.
constexpr Element kElements[] = {
    {"F32", DType::kF32, 32},
    {"F16", DType::kF16, 16},
    {"BF16", DType::kBF16, 16},
    {"I8", DType::kI8, 8},
    {"U8", DType::kU8, 8},
    {"I32", DType::kI32, 32},
    {"I64", DType::kI64, 64},
    {"BOOL", DType::kOther, 8},
    {"I16", DType::kOther, 16},
    {"U16", DType::kOther, 16},
    {"U32", DType::kOther, 32},
    {"U64", DType::kOther, 64},
    {"F64", DType::kOther, 64},
    {"C64", DType::kOther, 64},
    {"F8_E4M3", DType::kOther, 8},
    {"F8_E5M2", DType::kOther, 8},
    {"F8_E8M0", DType::kOther, 8},
    {"F8_E4M3FNUZ", DType::kOther, 8},
    {"F8_E5M2FNUZ", DType::kOther, 8},
    {"F6_E2M3", DType::kOther, 6},
    {"F6_E3M2", DType::kOther, 6},
    {"F4", DType::kOther, 4},
};

// The header's text. It may end with spaces, which pad it.
std::string_view HeaderText(const MappedFile& file) {
  if (file.size() < kLengthBytes) {
    throw FormatError("the file is too short for a safetensors header",
                      {.file = file.path(),
                       .expected = "at least " + std::to_string(kLengthBytes) + " bytes",
                       .found = std::to_string(file.size()) + " bytes"});
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(file.bytes()[i]);
  if (length > kMaxHeaderBytes) {
    throw FormatError("the safetensors header is longer than the format allows",
                      {.file = file.path(),
                       .offset = 0,
                       .expected = "at most " + std::to_string(kMaxHeaderBytes) + " bytes",
                       .found = std::to_string(length) + " bytes"});
  }
  if (length > file.size() - kLengthBytes) {
    throw FormatError("the safetensors header is longer than the file",
                      {.file = file.path(),
                       .offset = 0,
                       .expected = "at most " + std::to_string(file.size() - kLengthBytes) + " bytes",
                       .found = std::to_string(length) + " bytes"});
  }
  if (length > kMostHeaderBytes) {
    throw UnsupportedError("a safetensors header of this length is not read",
                           "Write the checkpoint in several files, or its notes (__metadata__) elsewhere.",
                           {.file = file.path(),
                            .offset = 0,
                            .expected = "at most " + std::to_string(kMostHeaderBytes) + " bytes",
                            .found = std::to_string(length) + " bytes"});
  }
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()) + kLengthBytes,
                              static_cast<std::size_t>(length));
  if (!text.starts_with('{')) {
    throw FormatError("the safetensors header is no JSON object",
                      {.file = file.path(),
                       .offset = kLengthBytes,
                       .expected = "\"{\"",
                       .found = text.empty() ? "an empty header" : Quoted(text.substr(0, 1))});
  }
  return text;
}

std::uint64_t Natural(const JsonCursor& number) {
  const std::int64_t value = number.Int();
  if (value < 0) number.Fail("a negative size", "0 or more");
  return static_cast<std::uint64_t>(value);
}

const Element& ElementOf(const JsonCursor& dtype) {
  const auto known = std::find_if(std::begin(kElements), std::end(kElements),
                                  [&](const Element& element) { return element.name == dtype.String(); });
  if (known == std::end(kElements)) dtype.Fail("an unknown element type", "one that safetensors defines");
  return *known;
}

// Bytes of an array. Nothing where they overflow, or where the last byte is not full.
std::optional<std::uint64_t> ArrayBytes(const std::vector<std::uint64_t>& shape, std::uint64_t element_bits) {
  std::optional<std::uint64_t> bits = element_bits;
  for (std::size_t i = 0; bits && i < shape.size(); ++i) bits = CheckedMul(*bits, shape[i]);
  return bits && *bits % 8 == 0 ? std::optional(*bits / 8) : std::nullopt;
}

TensorView ReadEntry(const JsonMember& member, const JsonCursor& entry, const MappedFile& file,
                     std::uint64_t data_start) {
  const std::uint64_t data_bytes = file.size() - data_start;
  if (member.key.empty() || member.key.size() > kMostNameBytes) {
    entry.Fail("a tensor's name of a wrong length", "1 to " + std::to_string(kMostNameBytes) + " bytes",
               std::to_string(member.key.size()));
  }
  for (const JsonMember& field : entry.Object()) {
    if (field.key != "dtype" && field.key != "shape" && field.key != "data_offsets") {
      entry.Fail("an unknown key in a tensor's entry", "dtype, shape and data_offsets", Quoted(field.key));
    }
  }
  TensorView tensor;
  tensor.name = member.key;

  const JsonCursor dtype = entry.At("dtype");
  const Element& element = ElementOf(dtype);
  tensor.dtype = element.dtype;
  tensor.dtype_name = element.name;

  const JsonCursor shape = entry.At("shape");
  for (std::size_t i = 0; i < shape.Array().size(); ++i) tensor.shape.push_back(Natural(shape.Child(i)));
  const auto bytes = ArrayBytes(tensor.shape, element.bits);
  if (!bytes)
    shape.Fail("the shape's bytes cannot be counted", "whole bytes that fit 64 bits", "more, or a broken byte");

  const JsonCursor offsets = entry.At("data_offsets");
  if (offsets.Array().size() != 2) {
    offsets.Fail("wrong data_offsets", "begin and end", std::to_string(offsets.Array().size()) + " numbers");
  }
  const std::uint64_t begin = Natural(offsets.Child(0));
  const std::uint64_t end = Natural(offsets.Child(1));
  if (begin > end) {
    offsets.Fail("data_offsets end before they begin", "an end of at least " + std::to_string(begin),
                 std::to_string(end));
  }
  if (end > data_bytes) {
    offsets.Fail("data_offsets lie outside the file", "an end of at most " + std::to_string(data_bytes),
                 std::to_string(end));
  }
  if (end - begin != *bytes) {
    offsets.Fail("data_offsets do not fit dtype and shape", std::to_string(*bytes) + " bytes",
                 std::to_string(end - begin) + " bytes");
  }
  tensor.offset = data_start + begin;
  tensor.bytes = file.bytes().subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(*bytes));
  return tensor;
}

// The bytes after the header belong to exactly one tensor each.
void CheckCover(const std::vector<TensorView>& tensors, const MappedFile& file, std::uint64_t data_start) {
  std::vector<const TensorView*> by_offset;
  for (const TensorView& tensor : tensors) by_offset.push_back(&tensor);
  const auto end_of = [](const TensorView& tensor) { return tensor.offset + tensor.bytes.size(); };
  std::sort(by_offset.begin(), by_offset.end(), [&](const TensorView* a, const TensorView* b) {
    return a->offset != b->offset ? a->offset < b->offset : end_of(*a) < end_of(*b);
  });

  std::uint64_t covered = data_start;
  const TensorView* before = nullptr;
  for (const TensorView* tensor : by_offset) {
    if (tensor->offset != covered) {
      const bool overlap = tensor->offset < covered;
      throw FormatError(overlap ? "the tensor overlaps another one" : "bytes before the tensor belong to none",
                        {.file = file.path(),
                         .tensor = tensor->name,
                         .offset = tensor->offset,
                         .expected = "a start at byte " + std::to_string(covered) +
                                     (before ? ", the end of " + Quoted(before->name) : ", the end of the header"),
                         .found = std::to_string(tensor->offset)});
    }
    covered = end_of(*tensor);
    before = tensor;
  }
  if (covered != file.size()) {
    throw FormatError("bytes after the last tensor belong to none",
                      {.file = file.path(),
                       .offset = covered,
                       .expected = "a file of " + std::to_string(covered) + " bytes",
                       .found = std::to_string(file.size()) + " bytes"});
  }
}

}  // namespace

std::vector<TensorView> ReadSafetensors(const MappedFile& file, std::size_t file_index) {
  RefuseStandIn(file);
  const std::string_view text = HeaderText(file);
  const std::uint64_t data_start = kLengthBytes + text.size();  // both inside of the file
  const JsonValue none;
  const JsonCursor header(none, file.path());

  // Entry by entry: a tree of the whole header would take several times as much as all that is made of it.
  std::vector<TensorView> tensors;
  JsonReader reader(text, file.path(), kLengthBytes);
  ReadJsonObject(reader, [&](const std::string& name) {
    const bool is_note = name == "__metadata__";
    if (!is_note && tensors.size() == kMostTensors) {
      reader.Fail("too many tensors in one file", "at most " + std::to_string(kMostTensors), "one more");
    }
    std::size_t left = is_note ? kMaxJsonValues : kMostEntryValues;
    const JsonMember member{name, ReadJsonValue(reader, left)};
    const JsonCursor entry = header.Child(member);
    if (is_note) {
      for (const JsonMember& note : entry.Object()) static_cast<void>(entry.Child(note).String());  // must be strings
    } else {
      tensors.push_back(ReadEntry(member, entry, file, data_start));
      tensors.back().file = file_index;
    }
    return JsonValue();
  });
  reader.End();
  CheckCover(tensors, file, data_start);
  return tensors;
}

}  // namespace gemmule
