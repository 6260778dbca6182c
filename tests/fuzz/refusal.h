// What a reader may do with a bad file: throw one of our exceptions, which says what was wrong in text that a terminal
// can show. Anything else ends the fuzzer: another exception, an abort, a sanitizer's finding.
#pragma once

#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/printable.h"

namespace gemmule::fuzz {

inline bool IsShowable(std::string_view text) { return Printable(text, text.size()) == text; }

inline void Require(bool complete, const Error& error) {
  if (complete && !error.remedy().empty() && IsShowable(error.what())) return;
  __builtin_printf("an incomplete message: %s\n%s\n", error.what(), error.remedy().c_str());
  std::abort();
}

// Calls `read`. True where it did not refuse.
template <class Read>
bool Accepts(const Read& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    Require(!error.where().file.empty(), error);
    return false;
  }
}

}  // namespace gemmule::fuzz
