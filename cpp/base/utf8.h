// UTF-8 (RFC 3629): overlong forms, surrogates and code points above U+10FFFF are none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gemmule {

// Bytes of the character at the start of `text` (not empty), 0 where there is none.
inline std::size_t Utf8Bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t size = lead >= 0xC2 && lead <= 0xDF ? 2 : lead >= 0xE0 && lead <= 0xEF ? 3 : 4;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char next = byte(1);
  if (lead == 0xE0 && next < 0xA0) return 0;  // overlong
  if (lead == 0xED && next > 0x9F) return 0;  // surrogate
  if (lead == 0xF0 && next < 0x90) return 0;  // overlong
  if (lead == 0xF4 && next > 0x8F) return 0;  // above U+10FFFF
  return size;
}

// The place of the first byte that no character begins with; text.size() where all of it is UTF-8.
inline std::size_t Utf8Prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t bytes = Utf8Bytes(text.substr(at));
    if (bytes == 0) break;
    at += bytes;
  }
  return at;
}

inline void AppendUtf8(std::uint32_t code, std::string& out) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

}  // namespace gemmule
