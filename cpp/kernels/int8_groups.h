// Activations as int8 in groups of 32 elements with a scale each, for rows in blocks, and their making.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/block.h"
#include "quant/encoding.h"

namespace gemmule {

// T rows: element = code * scale of its group. The elements are in step order (kernels/steps.h), which moves them only
// within their group.
struct Int8Groups {
  std::size_t tokens = 0;        // T
  std::size_t k = 0;             // a multiple of 32
  std::int8_t* codes = nullptr;  // [T][K], -127 ... 127
  float* scales = nullptr;       // [T][K / 32]
  float* sums8 = nullptr;        // [T][K / 32], an eighth of the sum of a group's elements: 8 lanes share it

  std::size_t groups() const { return k / kGroup; }
};

// One token: scale = max|x| / 127, code = round_half_even(x / scale). x (K,), K % 32 == 0; codes (K,), scales and sums8
// (K / 32,). A group with an infinity or a NaN gets such a scale and codes of 0, so that its products are NaN.
void QuantizeGroups(Encoding encoding, std::span<const float> x, std::int8_t* codes, float* scales,
                    float* sums8) noexcept;

}  // namespace gemmule
