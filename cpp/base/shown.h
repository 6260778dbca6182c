// Text from outside as messages show it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gemmule {

// `text` with everything that is not printable UTF-8 written as \xNN, so that no file's text moves a terminal's cursor.
// Cut behind `most` bytes of it, at the end of a character.
std::string Shown(std::string_view text, std::size_t most = std::string_view::npos);

}  // namespace gemmule
