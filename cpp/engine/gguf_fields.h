// Reading an architecture's keys of GGUF metadata, with bounds.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "formats/gguf.h"

namespace gemmule {

// What to do where a file has what no published checkpoint has.
inline constexpr char kAsPublished[] = "Use a file that llama.cpp's converter made of a published Gemma 4 or Gemma 3.";

// Throws UnsupportedError that names the value's file, key and offset.
[[noreturn]] void Refuse(const GgufValue& value, const std::string& what, const std::string& remedy,
                         std::string expected, std::string found);

// Both throw FormatError for a value of another type or out of range.
std::size_t CheckSize(const GgufValue& value, std::int64_t min, std::int64_t max);
double CheckPositive(const GgufValue& value);  // as a float32 too

// The keys that begin with the architecture's name, such as "gemma4.block_count": "block_count" here.
class GgufFields {
 public:
  GgufFields(const GgufMetadata& metadata, std::string architecture)
      : metadata_(metadata), prefix_(std::move(architecture) + ".") {}

  const GgufValue* Find(const std::string& key) const { return metadata_.Find(prefix_ + key); }
  const GgufValue& At(const std::string& key) const { return metadata_.At(prefix_ + key); }

  std::size_t Size(const std::string& key, std::int64_t min, std::int64_t max) const {
    return CheckSize(At(key), min, max);
  }
  std::size_t SizeOr(const std::string& key, std::size_t absent, std::int64_t min, std::int64_t max) const {
    const GgufValue* const value = Find(key);
    return value ? CheckSize(*value, min, max) : absent;
  }
  double PositiveOr(const std::string& key, double absent) const {
    const GgufValue* const value = Find(key);
    return value ? CheckPositive(*value) : absent;
  }
  // One value for each of `count` layers: an array of them, or one for all.
  std::vector<std::size_t> Sizes(const std::string& key, std::size_t count, std::int64_t min, std::int64_t max) const;

  // Throws FormatError where `array` is none of `count` elements.
  static void CheckLength(const GgufValue& array, std::size_t count);

 private:
  const GgufMetadata& metadata_;
  std::string prefix_;
};

}  // namespace gemmule
