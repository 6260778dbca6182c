#include "quant/row.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/float_types.h"
#include "quant/channelwise.h"

namespace gemmule {
namespace {

template <class T>
T LoadAt(const std::byte* bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes + i * sizeof(T), sizeof(T));
  return value;
}

template <Encoding kEncoding>
void DecodeCodes(const std::byte* row, std::span<const std::byte> scales, std::span<float> out) {
  const std::size_t blocks = scales.size() / sizeof(float);
  const std::size_t block = out.size() / blocks;
  for (std::size_t b = 0; b < blocks; ++b) {
    const float scale = LoadAt<float>(scales.data(), b);
    for (std::size_t i = b * block; i < (b + 1) * block; ++i) {
      out[i] = static_cast<float>(Channelwise<kEncoding>::Code(row, i)) * scale;
    }
  }
}

template <Encoding kEncoding>
std::uint8_t StoredCode(float x, float scale) {
  using C = Channelwise<kEncoding>;
  if (scale == 0.0f) return static_cast<std::uint8_t>(C::kOffset);
  // nearbyint rounds half to even in the default rounding mode. The comparisons send a NaN to kMin.
  const float rounded = std::nearbyint(x / scale);
  const float low = rounded > static_cast<float>(C::kMin) ? rounded : static_cast<float>(C::kMin);
  const float code = low < static_cast<float>(C::kMax) ? low : static_cast<float>(C::kMax);
  return static_cast<std::uint8_t>(static_cast<std::int32_t>(code) + C::kOffset);
}

}  // namespace

void DecodeRow(Encoding encoding, std::span<const std::byte> row, std::span<const std::byte> scales,
               std::span<float> out) {
  switch (encoding) {
    case Encoding::kF32: std::memcpy(out.data(), row.data(), out.size_bytes()); break;
    case Encoding::kF16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = FloatFromF16(LoadAt<std::uint16_t>(row.data(), i));
      break;
    case Encoding::kBF16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = FloatFromBf16(LoadAt<std::uint16_t>(row.data(), i));
      break;
    case Encoding::kC2: DecodeCodes<Encoding::kC2>(row.data(), scales, out); break;
    case Encoding::kC4: DecodeCodes<Encoding::kC4>(row.data(), scales, out); break;
    case Encoding::kC8: DecodeCodes<Encoding::kC8>(row.data(), scales, out); break;
    default: break;
  }
}

void EncodeRow(Encoding encoding, std::span<const float> x, float scale, std::byte* row) {
  const std::size_t n = x.size();
  switch (encoding) {
    case Encoding::kF32: std::memcpy(row, x.data(), x.size_bytes()); break;
    case Encoding::kBF16:
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint16_t bits = Bf16FromFloat(x[i]);
        std::memcpy(row + i * sizeof bits, &bits, sizeof bits);
      }
      break;
    case Encoding::kC8:
      for (std::size_t i = 0; i < n; ++i) row[i] = static_cast<std::byte>(StoredCode<Encoding::kC8>(x[i], scale));
      break;
    case Encoding::kC4:
      for (std::size_t i = 0; i < n; i += 2) {
        const unsigned low = StoredCode<Encoding::kC4>(x[i], scale);
        const unsigned high = StoredCode<Encoding::kC4>(x[i + 1], scale);
        row[i / 2] = static_cast<std::byte>(low | high << 4);
      }
      break;
    default: break;  // no cache is kept in the others
  }
}

}  // namespace gemmule
