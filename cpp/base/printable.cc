#include "base/printable.h"

#include <cstdint>

#include "base/utf8.h"

namespace gemmule {
namespace {

// Of a character's UTF-8 bytes.
std::uint32_t CodePoint(std::string_view character) {
  if (character.size() == 1) return static_cast<unsigned char>(character[0]);
  std::uint32_t code = static_cast<unsigned char>(character[0]) & (0x7Fu >> character.size());
  for (const char byte : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(byte) & 0x3F);
  return code;
}

// Controls, and what is not seen but moves or hides what is: marks of direction, joiners, separators of lines, tags.
bool IsHidden(std::uint32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0x200B && code < 0x2010) ||
         (code >= 0x2028 && code < 0x202F) || (code >= 0x2060 && code < 0x2070) || code == 0xFEFF || code >= 0xE0000;
}

}  // namespace

std::string Printable(std::string_view text, std::size_t most) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (i >= most) return out + "...";
    const std::size_t bytes = Utf8Bytes(text.substr(i));
    if (bytes != 0 && !IsHidden(CodePoint(text.substr(i, bytes)))) {
      out.append(text, i, bytes);
      i += bytes;
      continue;
    }
    const auto byte = static_cast<unsigned char>(text[i++]);
    out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 0xF]};
  }
  return out;
}

}  // namespace gemmule
