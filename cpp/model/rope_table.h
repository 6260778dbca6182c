// Angles of the rotary position embedding for a chunk's positions.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "model/config.h"

namespace gemmule {

// cos and sin of position * inv_freq[j], j < E / 2. Frequencies are spaced over the whole head, inv_freq[j] =
// theta^(-2j / E); only the first floor(partial_rotary_factor * E / 2) turn, the others are 0 ("proportional").
class RopeTable {
 public:
  RopeTable(const RopeParameters& parameters, std::size_t head_dim);

  // Angles for these positions. Computed in float32 as the reference does, then cos and sin in double.
  void Fill(std::span<const std::size_t> positions);

  // Of the i-th of the positions, (E / 2,).
  std::span<const float> Cos(std::size_t i) const { return {cos_.data() + i * inv_freq_.size(), inv_freq_.size()}; }
  std::span<const float> Sin(std::size_t i) const { return {sin_.data() + i * inv_freq_.size(), inv_freq_.size()}; }

  bool IsFor(const RopeParameters& parameters, std::size_t head_dim) const {
    return parameters == parameters_ && head_dim == 2 * inv_freq_.size();
  }

 private:
  RopeParameters parameters_;
  std::vector<float> inv_freq_;  // (E / 2,)
  Buffer<float> cos_;            // (positions, E / 2)
  Buffer<float> sin_;
};

}  // namespace gemmule
