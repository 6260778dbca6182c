// The scale of a static grid that values are rounded to with the least squared error.
#pragma once

#include "engine/histogram.h"

namespace gemmule {

// s with the least sum of (x - s clamp(round(x / s), -2^(bits-1), 2^(bits-1) - 1))^2 over the histogram's values, all
// of them finite. 0 where they are all 0, as there is nothing to round. Scales from that at which nothing is clamped
// down to 2^-12 of it are tried. bits >= 2.
float LeastSquaresScale(const Histogram& values, int bits);

}  // namespace gemmule
