#include "kernels/training_marks.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace gemmule {
namespace {

// Logarithms of densities, and widths in steps; docs/decisions/0017 says what happens with others.
constexpr double kMiddle = 1.5;  // at a middle between two codes
constexpr double kMiddleWidth = 0.01;
constexpr double kEnd = 1.0;  // less before an end, and more behind it
constexpr double kEndWidth = 0.3;

// At `u` > 0 steps, where the last code on this side is `end`.
double LogRatio(double u, double end) {
  const double beyond = u - end;
  if (beyond >= 0.0) return kEnd * std::max(0.0, 1.0 - beyond / kEndWidth);
  const double middle = (u - std::floor(u) - 0.5) / kMiddleWidth;
  return kMiddle / (1.0 + middle * middle) - kEnd * std::max(0.0, 1.0 + beyond / kEndWidth);
}

double StepsAt(double bin) { return std::exp2(bin / TrainingMarks::kBinsPerOctave); }

// Means over each bin, of the ratios around it too.
std::array<double, TrainingMarks::kBins> Ratios(double end) {
  constexpr int kParts = 4;
  std::array<double, TrainingMarks::kBins> ratios{};
  for (int i = 0; i < TrainingMarks::kBins; ++i) {
    for (int part = 0; part < kParts; ++part) {
      ratios[i] += LogRatio(StepsAt(TrainingMarks::kFirstBin + i + (part + 0.5) / kParts), end) / kParts;
    }
  }
  return ratios;
}

std::array<float, TrainingMarks::kBins> Contrast(const std::array<double, TrainingMarks::kBins>& ratios) {
  constexpr int kReach = TrainingMarks::kBinsPerOctave / 4;
  std::array<float, TrainingMarks::kBins> scores;
  for (int i = 0; i < TrainingMarks::kBins; ++i) {
    double sum = 0.0;
    for (int j = std::max(i - kReach, 0); j <= std::min(i + kReach, TrainingMarks::kBins - 1); ++j) sum += ratios[j];
    scores[i] = static_cast<float>(std::nearbyint((ratios[i] - sum / (2 * kReach + 1)) * TrainingMarks::kUnit));
  }
  return scores;
}

TrainingMarks Make(int bits) {
  const double last = (1 << (bits - 1)) - 1;
  TrainingMarks marks{{Contrast(Ratios(last)), Contrast(Ratios(last + 1))}, 0.0f};
  // A normal distribution that the codes span as they should: 1 step wide for 2 bits, 3 for 4.
  const double width = bits == 2 ? 1.0 : 3.0;
  double squares = 0.0;
  for (int i = 0; i < TrainingMarks::kBins; ++i) {
    const double z = StepsAt(TrainingMarks::kFirstBin + i + 0.5) / width;
    const double share =
        std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi) * z * std::numbers::ln2 / TrainingMarks::kBinsPerOctave;
    for (const auto& side : marks.scores) squares += share * side[i] * side[i];
  }
  marks.deviation = static_cast<float>(std::sqrt(squares));
  return marks;
}

}  // namespace

const TrainingMarks& MarksOf(int bits) {
  static const TrainingMarks two = Make(2);
  static const TrainingMarks four = Make(4);
  return bits == 2 ? two : four;
}

}  // namespace gemmule
