// The scale of weights that are codes times a scale already.
#pragma once

#include <optional>
#include <span>

#include "quant/encoding.h"

namespace gemmule {

// A scale with which all of x (n,) come back: the codes times the scale, rounded to the type that x was widened from,
// are x. Of several the one with the least squared error, and a negative one only where no positive one does it (as of
// a group with code 8, which is -8 times -scale). None where there is no such scale.
//
// Each weight leaves an interval of scales for each code that it might have. The largest weight is tried with each of
// its codes: that pins the scale down so far that all others have one code each, and the intervals are intersected.
//
//   codes   kC2, kC4, kC8, kU8 or kG4
//   source  kF32, kF16 or kBF16: what x was widened from
//   scales  kF32 or kBF16: the type of the scale
//   x       (n,), finite
std::optional<float> RecoveredScale(Encoding codes, Encoding source, Encoding scales,
                                    std::span<const float> x) noexcept;

}  // namespace gemmule
