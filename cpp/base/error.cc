#include "base/error.h"

#include "base/printable.h"

namespace gemmule {
namespace {

constexpr std::size_t kMostBytes = 500;   // of a tensor's name; JSON paths are cut key by key before
constexpr std::size_t kPathBytes = 4096;  // the longest path that the system takes

std::string Message(const std::string& what, const Where& where) {
  std::string text;
  if (!where.file.empty()) text += Printable(where.file, kPathBytes) + ": ";
  if (!where.tensor.empty()) text += Printable(where.tensor, kMostBytes) + ": ";
  text += what;
  if (where.offset) text += " at byte " + std::to_string(*where.offset);
  if (!where.expected.empty()) text += "; expected " + Printable(where.expected, kPathBytes);
  if (!where.found.empty()) text += "; found " + Printable(where.found, kPathBytes);
  return text;
}

}  // namespace

Error::Error(const std::string& what, std::string remedy, Where where)
    : std::runtime_error(Message(what, where)), remedy_(std::move(remedy)), where_(std::move(where)) {}

FormatError::FormatError(const std::string& what, Where where, std::string remedy)
    : Error(what, remedy.empty() ? "Download the checkpoint again, or ask whoever made the file." : std::move(remedy),
            std::move(where)) {}

UnsupportedError::UnsupportedError(const std::string& what, std::string remedy, Where where)
    : Error(what, std::move(remedy), std::move(where)) {}

ResourceError::ResourceError(const std::string& what, std::string remedy, Where where)
    : Error(what, std::move(remedy), std::move(where)) {}

ContextError::ContextError(const std::string& what, std::string remedy) : Error(what, std::move(remedy), {}) {}

ArgumentError::ArgumentError(const std::string& what, std::string remedy) : Error(what, std::move(remedy), {}) {}

}  // namespace gemmule
