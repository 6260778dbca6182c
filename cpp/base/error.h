// Exceptions that leave the library. Each names what was found and what to do about it; the bindings turn them into
// the Python classes of the same names.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace gemmule {

// Where in the data from outside something was wrong. Empty members are left out of the message.
struct Where {
  std::string file{};
  std::string tensor{};                      // tensor's, or JSON key's, name
  std::optional<std::uint64_t> offset = {};  // bytes from the file's start
  std::string expected{};
  std::string found{};
};

class Error : public std::runtime_error {
 public:
  Error(const std::string& what, std::string remedy, Where where);
  const std::string& remedy() const noexcept { return remedy_; }
  const Where& where() const noexcept { return where_; }

 private:
  std::string remedy_;
  Where where_;
};

// A file is not what it must be.
class FormatError : public Error {
 public:
  explicit FormatError(const std::string& what, Where where = {}, std::string remedy = "");
};

// A feature that gemmule does not run; the remedy is the way out.
class UnsupportedError : public Error {
 public:
  UnsupportedError(const std::string& what, std::string remedy, Where where = {});
};

// Memory, a thread or a file could not be had.
class ResourceError : public Error {
 public:
  ResourceError(const std::string& what, std::string remedy, Where where = {});
};

// More tokens than the context holds.
class ContextError : public Error {
 public:
  ContextError(const std::string& what, std::string remedy);
};

// A caller's argument is out of its range.
class ArgumentError : public Error {
 public:
  ArgumentError(const std::string& what, std::string remedy = "");
};

}  // namespace gemmule
