#include "kernels/code_scales.h"

#include <cmath>
#include <cstddef>
#include <limits>

#include "base/float_types.h"
#include "kernels/error_scale.h"
#include "kernels/recovered_scale.h"
#include "kernels/trained_scale.h"
#include "quant/channelwise.h"

namespace gemmule {
namespace {

constexpr float kLeast = std::numeric_limits<float>::min();

float SearchedScale(CodeRange range, std::span<const float> x) {
  constexpr std::size_t kEnough = 128;  // weights
  const float least = LeastSquaresScale(range, x);
  const float expected = ExpectedErrorScale(range, x);
  if (range.bits == 8 || x.size() < kEnough || !std::isnormal(expected)) return least;
  const auto trained = TrainedScale(range.bits, x, expected);
  const float scale = trained.value_or(expected);
  const float far_less = trained ? 0.6f : 0.8f;  // of a squared error
  return SquaredError(range, x, least) < far_less * SquaredError(range, x, scale) ? least : scale;
}

float FoundScale(ScaleRule rule, Encoding codes, Encoding source, Encoding scale_type, std::span<const float> x) {
  const CodeRange range = RangeOf(codes);
  if (rule == ScaleRule::kAbsmax) return AbsmaxScale(range, x);
  if (rule == ScaleRule::kRecover) {
    if (const auto scale = RecoveredScale(codes, source, Encoding::kF32, x)) {
      if (scale_type == Encoding::kF32) return *scale;
      return RecoveredScale(codes, source, scale_type, x).value_or(*scale);  // rounded, it leaves the codes as they are
    }
  }
  return SearchedScale(range, x);
}

float Usable(Encoding type, float scale) {
  const float rounded = type == Encoding::kBF16 ? FloatFromBf16(Bf16FromFloat(scale)) : scale;
  return std::abs(rounded) >= kLeast ? rounded : kLeast;
}

}  // namespace

void FindScales(ScaleRule rule, Encoding codes, Encoding source, Encoding scale_type, std::span<const float> x,
                std::span<float> scales) noexcept {
  const std::size_t group = x.size() / scales.size();
  for (std::size_t g = 0; g < scales.size(); ++g) {
    scales[g] = Usable(scale_type, FoundScale(rule, codes, source, scale_type, x.subspan(g * group, group)));
  }
}

}  // namespace gemmule
