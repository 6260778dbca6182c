#include "model/weights.h"

#include "kernels/elementwise.h"
#include "quant/row.h"

namespace gemmule {

void Embedding::Read(std::size_t row, std::span<float> out) const {
  std::vector<std::byte> bytes(codes->row_bytes());
  codes->Read(row, bytes);
  std::vector<std::byte> scale_bytes(scales ? scales->row_bytes() : 0);
  if (scales) scales->Read(row, scale_bytes);
  DecodeRow(encoding, bytes, {scale_bytes.data(), scale_bytes.size() / BlockBytes(scale_encoding), scale_encoding},
            out);
  Scale(multiplier, out);
}

}  // namespace gemmule
