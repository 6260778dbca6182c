// Where straight-through training leaves weights, by the step they lie in.
//
// A weight trained through rounding moves until its code changes, and then back: weights gather at the middles between
// two codes. Past the last code the gradient is cut off: a weight that crosses the end stays where it is, so weights
// are missing before each end and heaped up behind it. Both show in the distribution of weight / scale, and nowhere but
// at the scale that training used.
//
// Sources: Nagel et al. 2022, "Overcoming Oscillations in Quantization-Aware Training"; Esser et al. 2020, "Learned
// Step Size Quantization", whose gradient is 0 beyond the ends. Why these shapes: docs/decisions/0017.
#pragma once

#include <array>
#include <cstddef>

#include "quant/channelwise.h"

namespace gemmule {

// Marks in the logarithm of |weight / scale|, in bins of 1/256 octave: another scale is a shift.
struct TrainingMarks {
  static constexpr int kBinsPerOctave = 256;
  static constexpr int kFirstBin = -448;  // 2^-1.75 of a step: below there are no marks
  static constexpr int kBins = 1344;      // to 2^3.5 steps, behind the ends of 4 bits
  static constexpr float kUnit = 128.0f;  // integers, so that sums are exact in any order

  // [positive, negative][bin - kFirstBin]: how much likelier a weight is there after training, as a logarithm in units
  // of 1 / kUnit, less the mean of the half octave around it: a smooth distribution, whatever its width, adds up to 0.
  std::array<std::array<float, kBins>, 2> scores;
  // Standard deviation of one weight's score where the distribution is a smooth one, in the same units.
  float deviation;
};

// Of 2 or 4 bits. Made once.
const TrainingMarks& MarksOf(int bits);

}  // namespace gemmule
