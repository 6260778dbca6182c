// Activations as int8, laid out for rows of 2-, 4- or 8-bit codes, and their making.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/buffer.h"
#include "kernels/steps.h"
#include "quant/encoding.h"

namespace gemmule {

// T tokens of `digits` int8 digits each; digit d of token t is row t * digits + d here. Plane p of a row holds the
// codes that bits p of a weight row's bytes meet: its code [b] stands for element b * Planes + p. Planes are padded
// with zeros to whole vectors, and lie in words of four codes; rows lie in tiles of one or of eight:
//
//   a row or two  [rows][planes][words][4]           a vector of a plane meets one of a weight row's bytes
//   more          [rows / 8][words][planes][8][4]    a word meets four bytes of as many weight rows as a vector has
//   lanes
//
// What lies where the last tile lacks rows is not defined.
struct Int8Rows {
  static constexpr std::size_t kTile = 8;
  static constexpr std::size_t kWord = 4;  // codes, and their bytes

  std::size_t tokens = 0;        // T
  std::size_t digits = 1;        // 1: x = scale * code. 2: x = scale * (256 * high + low), the digits in this order
  std::size_t tile = 1;          // rows: 1 or kTile
  std::size_t planes = 1;        // of a row
  std::size_t plane_codes = 0;   // of a plane, padding included
  std::int8_t* codes = nullptr;  // size() bytes
  std::int32_t* sums = nullptr;  // (rows(),) sum of a row's codes
  float* scales = nullptr;       // (T,)

  // All but the pointers, for T tokens of K elements, K % Planes == 0.
  static Int8Rows Layout(Encoding encoding, std::size_t k, std::size_t tokens, std::size_t digits);

  std::size_t rows() const { return tokens * digits; }
  std::size_t tile_bytes() const { return tile * planes * plane_codes; }
  std::size_t size() const { return RoundUp(rows(), tile) / tile * tile_bytes(); }
  // A row's first code, and how many bytes lie from one plane, or one word, to the next.
  std::int8_t* Row(std::size_t row) const { return codes + row / tile * tile_bytes() + row % tile * kWord; }
  std::size_t plane_step() const { return tile == 1 ? plane_codes : tile * kWord; }
  std::size_t word_step() const { return tile == 1 ? kWord : planes * tile * kWord; }
  // The code of a row's element i.
  std::int8_t Code(std::size_t row, std::size_t i) const {
    const std::size_t b = i / planes;
    return Row(row)[i % planes * plane_step() + b / kWord * word_step() + b % kWord];
  }
};

// Token t as code = clamp(round_half_even(x / scale), -128, 127), with its sum and scale. x (K,), scale > 0. Infinities
// are at the ends; NaN shows in the scale.
void QuantizeStatic(const Int8Rows& to, std::size_t t, std::span<const float> x, float scale) noexcept;

// Token t as two digits with the scale max|x| / 32639, so that every value keeps 16 bits: |x - scale * (256 high +
// low)| is at most scale / 2. All zeros: the scale is 0. Infinities and NaN show in the scale.
void QuantizeTwoDigits(const Int8Rows& to, std::size_t t, std::span<const float> x) noexcept;

}  // namespace gemmule
