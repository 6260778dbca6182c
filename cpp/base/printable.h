// Text from outside as messages show it.
#pragma once

#include <string>
#include <string_view>

namespace gemmule {

// `text` cut to `most` bytes, with everything that is not seen or not UTF-8 written as \xNN: a name in a file cannot
// break a line, colour a terminal or fill a log.
std::string Printable(std::string_view text, std::size_t most);

}  // namespace gemmule
