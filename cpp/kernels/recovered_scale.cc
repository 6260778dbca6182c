#include "kernels/recovered_scale.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/float_types.h"
#include "kernels/encode_codes.h"
#include "quant/channelwise.h"

namespace gemmule {
namespace {

struct Interval {  // both ends belong to it
  double low;
  double high;
};

// What rounds to `magnitude` > 0, a number of the type: to the middle between it and its neighbours.
Interval RoundingInterval(Encoding type, float magnitude) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude);
  const std::uint32_t last = type == Encoding::kBF16 ? 0x10000 : type == Encoding::kF16 ? 0x2000 : 1;  // digit
  double below = std::bit_cast<float>(bits - last);
  double above = std::min<double>(std::bit_cast<float>(bits + last), 0x1p128);  // beyond the largest finite number, too
  if (type == Encoding::kF16) {                                                 // subnormal ones lie 2^-24 apart
    if (magnitude <= 0x1p-14f) below = magnitude - 0x1p-24;
    if (magnitude < 0x1p-14f) above = magnitude + 0x1p-24;
  }
  return {(magnitude + below) / 2, (magnitude + above) / 2};
}

// Of numbers from 0 to 2^31. The library's own are calls on processors without instructions for them.
double Floor(double x) { return static_cast<double>(static_cast<std::int32_t>(x)); }
double Ceil(double x) { return Floor(x) < x ? Floor(x) + 1.0 : Floor(x); }

// Weights seen with a positive scale (sign 1) or a negative one (sign -1).
class Weights {
 public:
  Weights(CodeRange range, Encoding source, std::span<const float> x, float sign)
      : range_(range), source_(source), x_(x), sign_(sign) {}

  // The largest code in magnitude that a weight of this sign can have.
  double Limit(float weight) const { return weight * sign_ > 0.0f ? range_.max : -range_.min; }

  // The scales that the weights leave of some, which leave the largest weight one code. A weight with two codes or more
  // waits until the others have had their say; if they do not settle it, its code is the nearest by `guess`, or without
  // a guess it has none.
  std::optional<Interval> Scales(Interval scales, std::optional<double> guess = {}) const {
    for (;;) {
      const Interval before = scales;
      bool all_known = true;
      for (const float weight : x_) {
        if (weight == 0.0f) continue;
        const Interval products = RoundingInterval(source_, std::abs(weight));
        double code = Ceil(products.low / scales.high);
        const double most = std::min(Floor(products.high / scales.low), Limit(weight));
        if (code > most) return std::nullopt;
        if (code < most) {
          if (!guess) {
            all_known = false;
            continue;
          }
          code = std::clamp(Floor(std::abs(weight) / *guess + 0.5), code, most);
        }
        if (scales.low * code < products.low) scales.low = products.low / code;
        if (scales.high * code > products.high) scales.high = products.high / code;
        if (scales.low > scales.high) return std::nullopt;
      }
      const bool is_narrower = scales.low > before.low || scales.high < before.high;
      if (all_known || !is_narrower) return scales;
    }
  }

  // Squared errors of scales with the codes that one scale gives.
  struct Errors {
    double best_scale;
    double least;
    double curvature;

    double At(double scale) const { return least + curvature * (scale - best_scale) * (scale - best_scale); }
  };
  Errors ErrorsOfCodes(double scale) const {
    double products = 0.0;
    double codes = 0.0;
    double weights = 0.0;
    for (const float weight : x_) {
      const double magnitude = std::abs(weight);
      const double code = Floor(magnitude / scale + 0.5);
      products += code * magnitude;
      codes += code * code;
      weights += magnitude * magnitude;
    }
    return {products / codes, weights - products * products / codes, codes};
  }

 private:
  CodeRange range_;
  Encoding source_;
  std::span<const float> x_;
  float sign_;
};

// Of the numbers of the type that lie next to `x` in the interval, the first that is_good, or 0. The ends and what lies
// beside them may not be: halfway between two numbers products are rounded to one of them only, and a product with a
// float32 scale is rounded twice.
template <class IsGood>
float NearestGood(const Interval& interval, Encoding type, double x, const IsGood& is_good) {
  const float nearest = static_cast<float>(std::clamp(x, interval.low, interval.high));
  const float rounded = type == Encoding::kBF16 ? FloatFromBf16(Bf16FromFloat(nearest)) : nearest;
  const std::int32_t bits = std::bit_cast<std::int32_t>(rounded);
  const std::int32_t last = type == Encoding::kBF16 ? 0x10000 : 1;
  for (const std::int32_t steps : {0, 1, -1, 2, -2, 3, -3}) {
    const float scale = std::bit_cast<float>(bits + steps * last);
    if (scale >= interval.low && scale <= interval.high && is_good(scale)) return scale;
  }
  return 0.0f;
}

double MiddleOf(const Interval& interval) { return interval.low + (interval.high - interval.low) / 2; }

struct Found {
  float scale = 0.0f;
  double squared_error = std::numeric_limits<double>::infinity();
};

// The best scale out of `scales`, all of which give the weights the same codes, or nearly so.
template <class IsGood>
Found BestWithin(const Weights& weights, const Interval& scales, Encoding type, const IsGood& is_good) {
  const auto errors = weights.ErrorsOfCodes(MiddleOf(scales));
  const float scale = NearestGood(scales, type, errors.best_scale, is_good);
  return scale == 0.0f ? Found() : Found{scale, errors.At(scale)};
}

// The best scale out of those that the weights leave of `first`.
template <class IsGood>
Found FoundWithin(const Weights& weights, const Interval& first, Encoding type, const IsGood& is_good) {
  const auto left = weights.Scales(first);
  if (!left) return {};
  const Found found = BestWithin(weights, *left, type, is_good);
  if (found.scale != 0.0f) return found;
  // Large codes of 8 bits may be two, even then.
  for (const double guess : {MiddleOf(*left), left->low, left->high}) {
    const auto settled = weights.Scales(*left, guess);
    if (!settled) continue;
    const Found settled_found = BestWithin(weights, *settled, type, is_good);
    if (settled_found.scale != 0.0f) return settled_found;
  }
  return {};
}

}  // namespace

std::optional<float> RecoveredScale(Encoding codes, Encoding source, Encoding scales,
                                    std::span<const float> x) noexcept {
  const auto is_smaller = [](float a, float b) { return std::abs(a) < std::abs(b); };
  const float largest = *std::max_element(x.begin(), x.end(), is_smaller);
  if (largest == 0.0f) return std::nullopt;
  const Interval products = RoundingInterval(source, std::abs(largest));
  for (const float sign : {1.0f, -1.0f}) {
    const Weights weights(RangeOf(codes), source, x, sign);
    const auto is_good = [&](float scale) { return IsOnGrid(codes, source, x, sign * scale); };
    Found best;
    for (int code = static_cast<int>(weights.Limit(largest)); code >= 1; --code) {
      const Found found = FoundWithin(weights, {products.low / code, products.high / code}, scales, is_good);
      if (found.squared_error < best.squared_error) best = found;
    }
    if (best.scale != 0.0f) return sign * best.scale;
  }
  return std::nullopt;
}

}  // namespace gemmule
