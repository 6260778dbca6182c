#include "model/linear.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/elementwise.h"
#include "kernels/matmul_blocks_i8.h"
#include "kernels/matmul_f32.h"
#include "kernels/matmul_i8.h"
#include "kernels/steps.h"

namespace gemmule {
namespace {

constexpr std::size_t kRowStep = 16;  // rows a thread takes at least: a cache line of one token's results

// Nanoseconds, roughly, for Parallel::For.
constexpr double kElementCost = 0.3;  // rounding or moving one activation
double RowCost(const MatrixView& w, std::size_t tokens) {
  return 0.02 * static_cast<double>(w.cols) * static_cast<double>(tokens);
}

}  // namespace

void LinearRunner::PrepareInt8Rows(Input& input, const float* x, std::size_t tokens, std::size_t k) {
  Int8Rows& rows = input.int8;
  rows = Int8Rows::Layout(input.encoding, k, tokens, input.scale != 0.0f ? 1 : 2);
  input.codes.Reserve(rows.size());
  input.sums.Reserve(rows.rows());
  input.scales.Reserve(tokens);
  rows.codes = input.codes.data();
  rows.sums = input.sums.data();
  rows.scales = input.scales.data();
  // Rows of one tile lie in the same cache lines.
  const std::size_t step = std::max<std::size_t>(1, rows.tile / rows.digits);
  parallel_.For(tokens, step, kElementCost * static_cast<double>(k), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const std::span<const float> row(x + t * k, k);
      if (rows.digits == 1) {
        QuantizeStatic(rows, t, row, input.scale);
      } else {
        QuantizeTwoDigits(rows, t, row);
      }
    }
  });
}

void LinearRunner::PrepareInt8Groups(Input& input, const float* x, std::size_t tokens, std::size_t k) {
  Int8Groups& to = input.groups;
  to.tokens = tokens;
  to.k = k;
  const std::size_t groups = to.groups();
  input.codes.Reserve(tokens * k);
  input.scales.Reserve(tokens * groups);
  input.sums.Reserve(tokens * groups * ScalesPerGroup(input.encoding));
  to.codes = input.codes.data();
  to.scales = input.scales.data();
  to.sums = input.sums.data();
  parallel_.For(tokens, 1, kElementCost * static_cast<double>(k), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) QuantizeGroups(input.encoding, {x + t * k, k}, t, to);
  });
}

void LinearRunner::PrepareFloats(Input& input, const float* x, std::size_t tokens, std::size_t k) {
  const std::size_t stride = StepFloats(input.encoding, k);
  input.step_stride = stride;
  input.steps.Reserve(tokens * stride);
  if (input.scale != 0.0f) input.rounded.Reserve(tokens * k);
  parallel_.For(tokens, 1, kElementCost * static_cast<double>(k), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      std::span<const float> row(x + t * k, k);
      if (input.scale != 0.0f) {
        const std::span<float> rounded(input.rounded.data() + t * k, k);
        std::copy(row.begin(), row.end(), rounded.begin());
        RoundToGrid(input.scale, rounded);
        row = rounded;
      }
      ToSteps(input.encoding, row, {input.steps.data() + t * stride, stride});
    }
  });
}

LinearRunner::Kind LinearRunner::KindFor(const Linear& linear) const {
  const bool is_static = linear.input_scale != 0.0f;
  if (products_ == Products::kFloat32) return Kind::kFloats;
  if (IsBlock(linear.weight.encoding)) return is_static ? Kind::kFloats : Kind::kInt8Groups;
  return IsCoded(linear.weight.encoding) && (is_static || linear.is_last) ? Kind::kInt8Rows : Kind::kFloats;
}

std::size_t LinearRunner::Prepare(const Linear& linear, const float* x, std::size_t tokens, std::size_t* used) {
  const Encoding encoding = linear.weight.encoding;
  const Kind kind = KindFor(linear);
  for (std::size_t i = 0; i < *used; ++i) {
    const Input& input = inputs_[i];
    if (input.kind == kind && input.encoding == encoding && input.scale == linear.input_scale) return i;
  }
  if (*used == inputs_.size()) inputs_.emplace_back();
  Input& input = inputs_[*used];
  input.kind = kind;
  input.encoding = encoding;
  input.scale = linear.input_scale;
  switch (kind) {
    case Kind::kFloats: PrepareFloats(input, x, tokens, linear.weight.cols); break;
    case Kind::kInt8Rows: PrepareInt8Rows(input, x, tokens, linear.weight.cols); break;
    case Kind::kInt8Groups: PrepareInt8Groups(input, x, tokens, linear.weight.cols); break;
  }
  return (*used)++;
}

void LinearRunner::Rows(const Linear& linear, const Input& input, std::size_t tokens, std::size_t begin,
                        std::size_t end, float* y, std::size_t y_stride) const {
  switch (input.kind) {
    case Kind::kFloats:
      MatmulF32(linear.weight, begin, end, input.steps.data(), tokens, input.step_stride, y, y_stride);
      break;
    case Kind::kInt8Rows: MatmulI8(linear.weight, begin, end, input.int8, y, y_stride); break;
    case Kind::kInt8Groups: MatmulBlocksI8(linear.weight, begin, end, input.groups, y, y_stride); break;
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    RoundToGrid(linear.output_scale, {y + t * y_stride + begin, end - begin});
  }
}

void LinearRunner::Run(const float* x, std::size_t tokens, std::initializer_list<LinearCall> calls) {
  std::size_t used = 0;
  std::size_t rows = 0;
  std::vector<std::size_t> inputs;
  for (const LinearCall& call : calls) {
    inputs.push_back(Prepare(*call.linear, x, tokens, &used));
    rows += call.linear->weight.rows;
  }
  parallel_.For(rows, kRowStep, RowCost(calls.begin()->linear->weight, tokens),
                [&](std::size_t begin, std::size_t end) {
                  // The modules' rows lie end to end; a piece may cross from one into the next.
                  std::size_t first = 0;
                  std::size_t i = 0;
                  for (const LinearCall& call : calls) {
                    const std::size_t last = first + call.linear->weight.rows;
                    const std::size_t from = std::max(begin, first);
                    const std::size_t to = std::min(end, last);
                    if (from < to)
                      Rows(*call.linear, inputs_[inputs[i]], tokens, from - first, to - first, call.y, call.y_stride);
                    first = last;
                    ++i;
                  }
                });
  if (observer_) observer_->OnLinear(x, tokens, calls);
}

void LinearRunner::RunGated(const float* x, std::size_t tokens, const Linear& gate, const Linear& up, float* scratch,
                            float* y) {
  const std::size_t width = gate.weight.rows;
  if (observer_) {  // who wants to see what gate gives before up's is multiplied into it
    Run(x, tokens, {{&gate, y, width}, {&up, scratch, width}});
    GeluMul({y, tokens * width}, {scratch, tokens * width}, {y, tokens * width});
    return;
  }
  std::size_t used = 0;
  const std::size_t gate_input = Prepare(gate, x, tokens, &used);
  const std::size_t up_input = Prepare(up, x, tokens, &used);
  parallel_.For(width, kRowStep, 2 * RowCost(gate.weight, tokens), [&](std::size_t begin, std::size_t end) {
    Rows(gate, inputs_[gate_input], tokens, begin, end, y, width);
    Rows(up, inputs_[up_input], tokens, begin, end, scratch, width);
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::span<float> gated(y + t * width + begin, end - begin);
      GeluMul(gated, {scratch + t * width + begin, end - begin}, gated);
    }
  });
}

}  // namespace gemmule
