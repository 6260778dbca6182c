#include "base/error.h"

#include "base/shown.h"

namespace gemmule {
namespace {

constexpr std::size_t kMostOfAName = 1000;  // bytes: far more than any tensor's name or path of keys has

std::string Message(const std::string& what, const Where& where) {
  std::string text;
  if (!where.file.empty()) text += Shown(where.file) + ": ";
  if (!where.tensor.empty()) text += Shown(where.tensor, kMostOfAName) + ": ";
  text += what;
  if (where.offset) text += " at byte " + std::to_string(*where.offset);
  if (!where.expected.empty()) text += "; expected " + Shown(where.expected);
  if (!where.found.empty()) text += "; found " + Shown(where.found);
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
