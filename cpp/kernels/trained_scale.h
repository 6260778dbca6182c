// The scale that quantization-aware training used, from the weights alone.
#pragma once

#include <optional>
#include <span>

namespace gemmule {

// The scale, within 15 % of `expected`, at which x shows most of what training leaves (kernels/training_marks.h), given
// that scales lie around `expected` with a standard deviation of 3 %; none where the marks are no clearer than a smooth
// distribution's might be by chance (4 standard deviations). Scales are tried 2^(1/256) apart.
//
//   bits      2 or 4
//   x         (n,): some hundreds at least, or the marks drown
//   expected  > 0, normal: kernels/error_scale.h, ExpectedErrorScale
//
// The same bits on all targets. Allocates nothing.
std::optional<float> TrainedScale(int bits, std::span<const float> x, float expected) noexcept;

}  // namespace gemmule
