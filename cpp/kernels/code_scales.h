// The rules by which a group of weights that becomes 2-, 4- or 8-bit codes gets its scale.
#pragma once

#include <span>

#include "quant/encoding.h"

namespace gemmule {

enum class ScaleRule {
  // max|x| / the last code.
  kAbsmax,
  // The least squared error; but of 2 and 4 bits, for 128 weights or more, the scale that quantization-aware training
  // used, if the weights show it clearly, else the one with the least expected squared error; unless the least squared
  // error is far less than with these. docs/decisions/0017.
  kSearch,
  // Of weights that are codes times a scale already, that scale, or the number next to it; of others kSearch.
  kRecover,
};

// Scales of G groups that make up a row. A scale is positive and normal, but for kRecover where only a negative one
// gives the weights back; of a group of zeros it is the least normal number.
//
//   codes       kC2, kC4, kC8, kU8 or kG4
//   source      kF32, kF16 or kBF16: what x was widened from
//   scale_type  kF32 or kBF16: the scales are numbers of this type
//   x           (K,), K a multiple of G; finite
//   scales      (G,)
//
// The same bits on all targets with fused multiply-add, kAbsmax and kRecover's grids on all. Allocates nothing.
void FindScales(ScaleRule rule, Encoding codes, Encoding source, Encoding scale_type, std::span<const float> x,
                std::span<float> scales) noexcept;

}  // namespace gemmule
