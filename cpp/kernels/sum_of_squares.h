// How much there is in some floats, and whether all of them are numbers.
#pragma once

#include <span>

namespace gemmule {

// sum of x[i]^2, in double: finite if and only if every x[i] is, as no sum of squares of floats overflows a double.
// The same bits on all targets with fused multiply-add.
double SumOfSquares(std::span<const float> x) noexcept;

}  // namespace gemmule
