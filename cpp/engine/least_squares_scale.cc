#include "engine/least_squares_scale.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace gemmule {
namespace {

double Code(double t, double most) { return std::min(std::nearbyint(t), most); }

// The integral from 0 to t of (u - Code(u))^2 du: every code but 0, of which half lies there, adds 1/12.
double ErrorUpTo(double t, double most) {
  const double code = Code(t, most);
  const double rest = t - code;
  return code / 12.0 + rest * rest * rest / 3.0;
}

class SquaredError {
 public:
  SquaredError(const Histogram& values, int bits) : bins_(values.Bins()), most_negative_(std::ldexp(1.0, bits - 1)) {}

  // The least scale that clamps nothing.
  double Widest() const {
    double widest = 0.0;
    for (const Histogram::Bin& bin : bins_) widest = std::max(widest, (bin.mean + bin.half_width) / Most(bin));
    return widest;
  }

  double At(double scale) const {
    double sum = 0.0;
    for (const Histogram::Bin& bin : bins_) sum += bin.count * OfBin(bin, scale);
    return sum * scale * scale;
  }

 private:
  double Most(const Histogram::Bin& bin) const { return bin.negative ? most_negative_ : most_negative_ - 1.0; }

  // Mean over the bin, in steps squared.
  double OfBin(const Histogram::Bin& bin, double scale) const {
    const double most = Most(bin);
    const double t = bin.mean / scale;
    const double half = bin.half_width / scale;
    const double rest = t - Code(t, most);
    // Within half a step, where all of the bin has one code. Also where there is a single value.
    if (half < 0.5 - std::abs(rest) || t - half > most) return rest * rest + half * half / 3.0;
    return (ErrorUpTo(t + half, most) - ErrorUpTo(t - half, most)) / (2.0 * half);
  }

  std::vector<Histogram::Bin> bins_;
  double most_negative_;  // 2^(bits-1); positive codes end one before
};

// Of `center` 2^(i / steps), first <= i <= last, the one with the least error; of equals the largest.
double BestOf(const SquaredError& error, double center, int first, int last, double steps) {
  double best = 0.0;
  double least = 0.0;
  for (int i = last; i >= first; --i) {
    const double scale = center * std::exp2(i / steps);
    const double at = error.At(scale);
    if (i != last && !(at < least)) continue;
    best = scale;
    least = at;
  }
  return best;
}

}  // namespace

float LeastSquaresScale(const Histogram& values, int bits) {
  constexpr int kOctaves = 12;
  const SquaredError error(values, bits);
  const double widest = error.Widest();
  if (widest == 0.0) return 0.0f;
  const double coarse = BestOf(error, widest, -16 * kOctaves, 2, 16.0);
  const double fine = BestOf(error, coarse, -12, 12, 128.0);
  return static_cast<float>(BestOf(error, fine, -8, 8, 1024.0));
}

}  // namespace gemmule
