#include "engine/gguf_fields.h"

#include <limits>

#include "base/error.h"

namespace gemmule {

void Refuse(const GgufValue& value, const std::string& what, const std::string& remedy, std::string expected,
            std::string found) {
  throw UnsupportedError(what, remedy,
                         {.file = value.file(),
                          .tensor = value.key(),
                          .offset = value.offset(),
                          .expected = std::move(expected),
                          .found = std::move(found)});
}

std::size_t CheckSize(const GgufValue& value, std::int64_t min, std::int64_t max) {
  const std::int64_t number = value.Int();
  if (number < min || number > max) {
    value.Fail("a size is out of range", std::to_string(min) + " to " + std::to_string(max));
  }
  return static_cast<std::size_t>(number);
}

double CheckPositive(const GgufValue& value) {
  const double number = value.Number();
  // The model computes in float32: what is zero or infinite there is of no use either.
  if (!(number >= std::numeric_limits<float>::min() && number <= std::numeric_limits<float>::max())) {
    value.Fail("a number is out of range", "a positive number that a float32 holds");
  }
  return number;
}

std::vector<std::size_t> GgufFields::Sizes(const std::string& key, std::size_t count, std::int64_t min,
                                           std::int64_t max) const {
  const GgufValue& value = At(key);
  if (!value.IsArray()) return std::vector<std::size_t>(count, CheckSize(value, min, max));
  CheckLength(value, count);
  std::vector<std::size_t> sizes;
  for (std::size_t i = 0; i < count; ++i) sizes.push_back(CheckSize(value.Child(i), min, max));
  return sizes;
}

void GgufFields::CheckLength(const GgufValue& array, std::size_t count) {
  if (!array.IsArray() || array.size() != count) {
    array.Fail("wrong number of layers", "an array of " + std::to_string(count) + ", as block_count says",
               array.TypeName());
  }
}

}  // namespace gemmule
