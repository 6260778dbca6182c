// The scale of a group of weights by the squared error that its codes leave.
#pragma once

#include <span>

#include "quant/channelwise.h"

namespace gemmule {

// max|x| / range.max: the largest weight has the last code. x (n,)
float AbsmaxScale(CodeRange range, std::span<const float> x) noexcept;

// The scale with the least squared error that is to be expected of weights spread evenly within a step:
//
//   scale^2 / 12 for each weight within [min, max] * scale, (|x| - |end|)^2 for one beyond the end on its side.
//
// It does not see where the weights lie within a step, so weights that training has driven apart or together there do
// not draw it to another place. x (n,), n >= 1; 0 where all are 0.
float ExpectedErrorScale(CodeRange range, std::span<const float> x) noexcept;

// Squared error of x (n,) with the nearest codes, to which NaN and infinity lead if the scale is no normal number.
float SquaredError(CodeRange range, std::span<const float> x, float scale) noexcept;

// The scale with the least squared error: the best of ExpectedErrorScale and of some from AbsmaxScale on down, 2^(1/4)
// apart; of 33 around it, 2^(1/64) apart; and of that which fits its codes best, twice. The RMS error is within 1 % of
// the least one there is, of 8-bit codes of short groups 5 %, on average.
float LeastSquaresScale(CodeRange range, std::span<const float> x) noexcept;

// The sums are the same bits on all targets with fused multiply-add. Nothing is allocated.

}  // namespace gemmule
