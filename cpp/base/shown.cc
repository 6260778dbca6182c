#include "base/shown.h"

#include "base/utf8.h"

namespace gemmule {
namespace {

// U+0000 to U+001F, U+007F to U+009F: terminals obey them.
bool IsControl(std::string_view character) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7F;
  return byte(0) == 0xC2 && byte(1) < 0xA0;
}

}  // namespace

std::string Shown(std::string_view text, std::size_t most) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (i >= most) return out + "...";
    const std::size_t bytes = Utf8Bytes(text.substr(i));
    if (bytes == 0 || IsControl(text.substr(i, bytes))) {
      const auto c = static_cast<unsigned char>(text[i]);
      out += {'\\', 'x', kHex[c >> 4], kHex[c & 0xF]};
      ++i;
    } else {
      out.append(text, i, bytes);
      i += bytes;
    }
  }
  return out;
}

}  // namespace gemmule
