#include "formats/stand_in.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/error.h"

namespace gemmule {

void RefuseStandIn(const MappedFile& file) {
  const std::size_t head_bytes = static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), 512));
  const std::string_view head(reinterpret_cast<const char*>(file.bytes().data()), head_bytes);

  if (head.starts_with("version https://git-lfs.github.com/spec/")) {
    throw FormatError("the file itself was not downloaded",
                      {.file = file.path(), .expected = "the file's content", .found = "a Git LFS pointer to it"},
                      "Run `git lfs pull` in the folder, or download the checkpoint again.");
  }

  std::string start(head.substr(std::min(head.find_first_not_of(" \t\r\n"), head.size())));
  std::transform(start.begin(), start.end(), start.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (start.starts_with("<!doctype html") || start.starts_with("<html")) {
    throw FormatError("the file itself was not downloaded",
                      {.file = file.path(), .expected = "the file's content", .found = "an HTML page"},
                      "Download the checkpoint again. If it asks for a licence, accept it and log in first.");
  }
}

}  // namespace gemmule
