#include "model/weights.h"

#include <bit>
#include <cstdint>

#include "base/error.h"
#include "kernels/elementwise.h"
#include "quant/row.h"

namespace gemmule {
namespace {

// Without leaving early, so that the compiler makes vectors of it.
bool AreFinite(std::span<const float> x) {
  constexpr std::uint32_t kExponent = 0x7F800000;
  bool finite = true;
  for (const float value : x) finite &= (std::bit_cast<std::uint32_t>(value) & kExponent) != kExponent;
  return finite;
}

}  // namespace

void Embedding::Read(std::size_t row, std::span<float> out) const {
  std::vector<std::byte> bytes(codes->row_bytes());
  codes->Read(row, bytes);
  std::vector<std::byte> scale_bytes(scales ? scales->row_bytes() : 0);
  if (scales) scales->Read(row, scale_bytes);
  DecodeRow(encoding, bytes, {scale_bytes.data(), scale_bytes.size() / BlockBytes(scale_encoding), scale_encoding},
            out);
  Scale(multiplier, out);
  if (AreFinite(out)) return;
  throw FormatError("a row of the table is not finite",
                    {.file = codes->file(),
                     .tensor = name,
                     .expected = "finite numbers",
                     .found = "NaN or infinity in row " + std::to_string(row)},
                    "The file is damaged: gemmule verify says where. Download it again.");
}

}  // namespace gemmule
