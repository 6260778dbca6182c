#include "model/rope_table.h"

#include <cmath>

namespace gemmule {

RopeTable::RopeTable(const RopeParameters& parameters, std::size_t head_dim)
    : parameters_(parameters), inv_freq_(head_dim / 2, 0.0f) {
  const auto turning = static_cast<std::size_t>(parameters.partial_rotary_factor * static_cast<double>(head_dim) / 2);
  for (std::size_t j = 0; j < std::min(turning, inv_freq_.size()); ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(head_dim);
    const auto power = static_cast<float>(std::pow(parameters.rope_theta, static_cast<double>(exponent)));
    inv_freq_[j] = 1.0f / power / static_cast<float>(parameters.factor);
  }
}

void RopeTable::Fill(std::span<const std::size_t> positions) {
  const std::size_t half = inv_freq_.size();
  cos_.Reserve(positions.size() * half);
  sin_.Reserve(positions.size() * half);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    for (std::size_t j = 0; j < half; ++j) {
      const double angle = static_cast<float>(positions[i]) * inv_freq_[j];
      cos_.data()[i * half + j] = static_cast<float>(std::cos(angle));
      sin_.data()[i * half + j] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace gemmule
