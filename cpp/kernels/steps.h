// The order in which float kernels read a stored row: in steps of 16 elements that one load and one shift give.
//
// A byte of 2- or 4-bit codes holds several elements, one of each "plane". 16 neighbouring bytes give one step per
// plane, so step s = chunk * planes + plane holds the elements (16 chunk + j) * planes + plane for j < 16. For floats
// and 8-bit codes there is one plane and step order is the row's own order. The other operand is put into step order
// once, instead of unpacking every row (docs/decisions/0004).
#pragma once

#include <cstddef>
#include <span>

#include "base/buffer.h"
#include "quant/encoding.h"

namespace gemmule {

constexpr std::size_t Planes(Encoding encoding) {
  if (encoding == Encoding::kG4) return 2;
  return IsCoded(encoding) ? BlockElements(encoding) : 1;
}

// Floats that n elements take in step order: whole chunks.
constexpr std::size_t StepFloats(Encoding encoding, std::size_t n) {
  return RoundUp(n / Planes(encoding), 16) * Planes(encoding);
}

// out = x in step order, StepFloats(encoding, x.size()) floats, zero where x has no element.
inline void ToSteps(Encoding encoding, std::span<const float> x, std::span<float> out) {
  const std::size_t planes = Planes(encoding);
  std::size_t o = 0;
  for (std::size_t chunk = 0; o < out.size(); ++chunk) {
    for (std::size_t plane = 0; plane < planes; ++plane) {
      for (std::size_t j = 0; j < 16; ++j, ++o) {
        const std::size_t i = (16 * chunk + j) * planes + plane;
        out[o] = i < x.size() ? x[i] : 0.0f;
      }
    }
  }
}

}  // namespace gemmule
