#include "formats/gguf_files.h"

#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"

namespace gemmule {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxParts = 99'999;  // what five digits in a name can count

// Of one file: part `number` (from 0) of `count`.
struct Part {
  std::int64_t number = 0;
  std::int64_t count = 1;
};

Part ReadPart(const GgufMetadata& metadata) {
  const GgufValue* const count = metadata.Find("split.count");
  if (count == nullptr) return {};
  Part part{.number = 0, .count = count->Int()};
  if (part.count < 1 || part.count > kMaxParts) {
    count->Fail("a wrong number of parts", "1 to " + std::to_string(kMaxParts));
  }
  const GgufValue& number = metadata.At("split.no");
  part.number = number.Int();
  if (part.number < 0 || part.number >= part.count) {
    number.Fail("a part's number is out of range", "0 to " + std::to_string(part.count - 1));
  }
  return part;
}

void AppendFiveDigits(std::int64_t number, std::string& text) {
  for (std::int64_t unit = 10'000; unit != 0; unit /= 10) text += static_cast<char>('0' + number / unit % 10);
}

// How llama-gguf-split ends the names of parts.
std::string Suffix(std::int64_t number, std::int64_t count) {
  std::string text = "-";
  AppendFiveDigits(number + 1, text);
  text += "-of-";
  AppendFiveDigits(count, text);
  return text + ".gguf";
}

// The path of part `number`, beside `path`, which is part `own`.
std::string PathOfPart(const std::string& path, const Part& own, std::int64_t number) {
  const std::string suffix = Suffix(own.number, own.count);
  if (!path.ends_with(suffix)) {
    throw FormatError("the file is one part of several, but its name does not say which",
                      {.file = path,
                       .tensor = "split.no",
                       .expected = "a name that ends in " + suffix,
                       .found = fs::path(path).filename().string()},
                      "Give all parts the names that they were made with.");
  }
  return path.substr(0, path.size() - suffix.size()) + Suffix(number, own.count);
}

void CheckTensorCount(const GgufMetadata& metadata, std::size_t found) {
  const GgufValue* const count = metadata.Find("split.tensors.count");
  if (count == nullptr || count->Int() == static_cast<std::int64_t>(found)) return;
  count->Fail("the parts do not hold as many tensors as the first one says", std::to_string(count->Int()),
              std::to_string(found) + " tensors");
}

}  // namespace

GgufFiles OpenGguf(const std::string& path) {
  auto given = std::make_shared<const MappedFile>(MappedFile::Open(path));
  GgufFile read = ReadGguf(*given, 0);
  const Part own = ReadPart(read.metadata);
  if (own.count == 1) {
    GgufFiles result{.path = path, .metadata = std::move(read.metadata), .weights = {}};
    result.weights.Add(std::move(given), std::move(read.tensors));
    result.weights.SortByName();
    return result;
  }

  GgufFiles result;
  result.path = PathOfPart(path, own, 0);
  for (std::int64_t i = 0; i < own.count; ++i) {
    const std::string name = PathOfPart(path, own, i);
    std::error_code ignored;
    if (!fs::exists(name, ignored)) {
      throw FormatError("a part of the model is missing",
                        {.file = path, .tensor = "split.count", .expected = name, .found = "no such file"},
                        "Download all " + std::to_string(own.count) + " parts into one folder.");
    }
    auto file = std::make_shared<const MappedFile>(MappedFile::Open(name));
    GgufFile part = ReadGguf(*file, result.weights.files.size());
    const Part said = ReadPart(part.metadata);
    if (said.number != i || said.count != own.count) {
      const auto text = [](const Part& p) {
        return "part " + std::to_string(p.number + 1) + " of " + std::to_string(p.count);
      };
      throw FormatError("the file is another part than its name says",
                        {.file = name, .tensor = "split.no", .expected = text({i, own.count}), .found = text(said)});
    }
    if (i == 0) result.metadata = std::move(part.metadata);
    result.weights.Add(std::move(file), std::move(part.tensors));
  }
  CheckTensorCount(result.metadata, result.weights.tensors.size());
  result.weights.SortByName();
  return result;
}

}  // namespace gemmule
