#include "quant/row.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/float_types.h"
#include "quant/blocks.h"
#include "quant/channelwise.h"

namespace gemmule {
namespace {

template <Encoding kEncoding>
void DecodeFloats(const std::byte* row, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = FloatAt(kEncoding, row, i);
}

template <Encoding kEncoding>
void DecodeCodes(const std::byte* row, const ScaleView& scales, std::span<float> out) {
  const std::size_t block = out.size() / scales.count;
  for (std::size_t b = 0; b < scales.count; ++b) {
    const float scale = scales.At(b);
    for (std::size_t i = b * block; i < (b + 1) * block; ++i) {
      out[i] = static_cast<float>(Channelwise<kEncoding>::Code(row, i)) * scale;
    }
  }
}

template <Encoding kEncoding>
void DecodeBlocks(const std::byte* row, const ScaleView& scales, std::span<float> out) {
  const auto* blocks = reinterpret_cast<const Block<kEncoding>*>(row);
  for (std::size_t b = 0; b < out.size() / BlockElements(kEncoding); ++b) {
    float* to = out.data() + b * BlockElements(kEncoding);
    if constexpr (kEncoding == Encoding::kG4) {
      blocks[b].Decode(scales.At(b), to);
    } else {
      blocks[b].Decode(to);
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

void DecodeRow(Encoding encoding, std::span<const std::byte> row, const ScaleView& scales, std::span<float> out) {
  switch (encoding) {
    case Encoding::kF32: return DecodeFloats<Encoding::kF32>(row.data(), out);
    case Encoding::kF16: return DecodeFloats<Encoding::kF16>(row.data(), out);
    case Encoding::kBF16: return DecodeFloats<Encoding::kBF16>(row.data(), out);
    case Encoding::kC2: return DecodeCodes<Encoding::kC2>(row.data(), scales, out);
    case Encoding::kC4: return DecodeCodes<Encoding::kC4>(row.data(), scales, out);
    case Encoding::kC8: return DecodeCodes<Encoding::kC8>(row.data(), scales, out);
    case Encoding::kU8: return DecodeCodes<Encoding::kU8>(row.data(), scales, out);
    case Encoding::kG4: return DecodeBlocks<Encoding::kG4>(row.data(), scales, out);
    case Encoding::kQ4_0: return DecodeBlocks<Encoding::kQ4_0>(row.data(), scales, out);
    case Encoding::kQ4_1: return DecodeBlocks<Encoding::kQ4_1>(row.data(), scales, out);
    case Encoding::kQ5_0: return DecodeBlocks<Encoding::kQ5_0>(row.data(), scales, out);
    case Encoding::kQ5_1: return DecodeBlocks<Encoding::kQ5_1>(row.data(), scales, out);
    case Encoding::kQ8_0: return DecodeBlocks<Encoding::kQ8_0>(row.data(), scales, out);
    case Encoding::kQ4_K: return DecodeBlocks<Encoding::kQ4_K>(row.data(), scales, out);
    case Encoding::kQ5_K: return DecodeBlocks<Encoding::kQ5_K>(row.data(), scales, out);
    case Encoding::kQ6_K: return DecodeBlocks<Encoding::kQ6_K>(row.data(), scales, out);
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
