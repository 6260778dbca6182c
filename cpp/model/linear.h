// Linear modules on T tokens: rounds and lays out the input once, then shares the rows out among threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/parallel.h"
#include "kernels/int8_groups.h"
#include "kernels/int8_rows.h"
#include "model/model.h"
#include "model/observer.h"

namespace gemmule {

// One module and where its result goes: y (T, y_stride), columns [0, rows).
struct LinearCall {
  const Linear* linear;
  float* y;
  std::size_t y_stride;
};

// The same with an x of its own: x (T, K), y (T, rows).
struct OwnCall {
  const Linear* linear;
  const float* x;
  std::size_t tokens;  // T
  float* y;
};

// A gated unit with an x of its own: x (T, K), y (T, F) = gelu(gate(x)) * up(x); `scratch` (T, F) is overwritten.
struct GatedCall {
  const Linear* gate;
  const Linear* up;
  const float* x;
  std::size_t tokens;  // T
  float* scratch;
  float* y;
};

class LinearRunner {
 public:
  // `observer` sees every module's input and output; null: there is none.
  LinearRunner(Products products, Parallel& parallel, Observer* observer = nullptr)
      : products_(products), parallel_(parallel), observer_(observer) {}

  // y = linear(x) for every call; x (T, K) f32, the same for all. One parallel region for all rows.
  void Run(const float* x, std::size_t tokens, std::initializer_list<LinearCall> calls);

  // The elements `rows` of y (out,) alone, for one token; x (K,).
  void RunRows(const Linear& linear, const float* x, std::span<const std::int32_t> rows, float* y);

  // All calls, in one parallel region.
  void RunEach(std::span<const OwnCall> calls);
  void RunGated(std::span<const GatedCall> calls);

 private:
  enum class Kind { kFloats, kInt8Rows, kInt8Groups };

  // x as one kind of matrix wants it. Modules with the same encoding and scale share it.
  struct Input {
    const float* x = nullptr;
    std::size_t tokens = 0;
    Kind kind = Kind::kFloats;
    Encoding encoding = Encoding::kF32;
    float scale = 0.0f;
    Int8Rows int8;                // kInt8Rows; points into the buffers below
    Int8Groups groups;            // kInt8Groups; likewise
    std::size_t step_stride = 0;  // kFloats: floats from token to token
    Buffer<float> steps;
    Buffer<float> rounded;  // (T, K), float products at a static scale
    Buffer<std::int8_t> codes;
    Buffer<std::int32_t> sums;
    Buffer<float> scales;
  };

  // The x prepared for `linear`: found among the first `*used` of inputs_, or made behind them.
  std::size_t Prepare(const Linear& linear, const float* x, std::size_t tokens, std::size_t* used);
  Kind KindFor(const Linear& linear) const;
  void PrepareInt8Rows(Input& input, const float* x, std::size_t tokens, std::size_t k);
  void PrepareInt8Groups(Input& input, const float* x, std::size_t tokens, std::size_t k);
  void PrepareFloats(Input& input, const float* x, std::size_t tokens, std::size_t k);

  // Rows [begin, end) of one module for all tokens, output rounding included. Runs inside a parallel region.
  void Rows(const Linear& linear, const Input& input, std::size_t begin, std::size_t end, float* y,
            std::size_t y_stride) const;

  Products products_;
  Parallel& parallel_;
  Observer* observer_;
  std::vector<Input> inputs_;
};

}  // namespace gemmule
