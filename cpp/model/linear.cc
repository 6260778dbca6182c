#include "model/linear.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

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

// Rows of several calls, end to end.
struct AllRows {
  std::size_t rows = 0;
  double cost = 0.0;

  void Add(const MatrixView& w, std::size_t tokens, double modules = 1.0) {
    rows += w.rows;
    cost += modules * RowCost(w, tokens) * static_cast<double>(w.rows);
  }
  double RowsCost() const { return cost / static_cast<double>(rows); }  // of one
};

// body(i, from, to) for rows [from, to) of each call i that lie in [begin, end) of all. rows(i): of one call.
template <class Rows, class Body>
void ForCalls(std::size_t begin, std::size_t end, const Rows& rows, const Body& body) {
  std::size_t first = 0;
  for (std::size_t i = 0; first < end; ++i) {
    const std::size_t last = first + rows(i);
    const std::size_t from = std::max(begin, first);
    const std::size_t to = std::min(end, last);
    if (from < to) body(i, from - first, to - first);
    first = last;
  }
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
  const bool is_exact = IsCoded(linear.weight.encoding) && linear.weight.cols <= kMostExactColumns;
  return is_exact && (is_static || linear.is_last) ? Kind::kInt8Rows : Kind::kFloats;
}

std::size_t LinearRunner::Prepare(const Linear& linear, const float* x, std::size_t tokens, std::size_t* used) {
  const Encoding encoding = linear.weight.encoding;
  const Kind kind = KindFor(linear);
  for (std::size_t i = 0; i < *used; ++i) {
    const Input& input = inputs_[i];
    if (input.x == x && input.tokens == tokens && input.kind == kind && input.encoding == encoding &&
        input.scale == linear.input_scale) {
      return i;
    }
  }
  if (*used == inputs_.size()) inputs_.emplace_back();
  Input& input = inputs_[*used];
  input.x = x;
  input.tokens = tokens;
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

void LinearRunner::Rows(const Linear& linear, const Input& input, std::size_t begin, std::size_t end, float* y,
                        std::size_t y_stride) const {
  switch (input.kind) {
    case Kind::kFloats:
      MatmulF32(linear.weight, begin, end, input.steps.data(), input.tokens, input.step_stride, y, y_stride);
      break;
    case Kind::kInt8Rows: MatmulI8(linear.weight, begin, end, input.int8, y, y_stride); break;
    case Kind::kInt8Groups: MatmulBlocksI8(linear.weight, begin, end, input.groups, y, y_stride); break;
  }
  for (std::size_t t = 0; t < input.tokens; ++t) {
    RoundToGrid(linear.output_scale, {y + t * y_stride + begin, end - begin});
  }
}

void LinearRunner::Run(const float* x, std::size_t tokens, std::initializer_list<LinearCall> list) {
  const std::span<const LinearCall> calls(list.begin(), list.size());
  std::size_t used = 0;
  AllRows all;
  std::vector<std::size_t> inputs;
  for (const LinearCall& call : calls) {
    inputs.push_back(Prepare(*call.linear, x, tokens, &used));
    all.Add(call.linear->weight, tokens);
  }
  const auto rows = [&](std::size_t i) { return calls[i].linear->weight.rows; };
  parallel_.For(all.rows, kRowStep, all.RowsCost(), [&](std::size_t begin, std::size_t end) {
    ForCalls(begin, end, rows, [&](std::size_t i, std::size_t from, std::size_t to) {
      Rows(*calls[i].linear, inputs_[inputs[i]], from, to, calls[i].y, calls[i].y_stride);
    });
  });
  if (observer_) observer_->OnLinear(x, tokens, calls);
}

void LinearRunner::RunRows(const Linear& linear, const float* x, std::span<const std::int32_t> rows, float* y) {
  std::size_t used = 0;
  const Input& input = inputs_[Prepare(linear, x, 1, &used)];
  parallel_.For(rows.size(), kRowStep, RowCost(linear.weight, 1), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const auto row = static_cast<std::size_t>(rows[i]);
      Rows(linear, input, row, row + 1, y, linear.weight.rows);
    }
  });
}

void LinearRunner::RunEach(std::span<const OwnCall> calls) {
  std::size_t used = 0;
  AllRows all;
  std::vector<std::size_t> inputs;
  for (const OwnCall& call : calls) {
    inputs.push_back(Prepare(*call.linear, call.x, call.tokens, &used));
    all.Add(call.linear->weight, call.tokens);
  }
  const auto rows = [&](std::size_t i) { return calls[i].linear->weight.rows; };
  parallel_.For(all.rows, kRowStep, all.RowsCost(), [&](std::size_t begin, std::size_t end) {
    ForCalls(begin, end, rows, [&](std::size_t i, std::size_t from, std::size_t to) {
      Rows(*calls[i].linear, inputs_[inputs[i]], from, to, calls[i].y, rows(i));
    });
  });
  if (!observer_) return;
  for (const OwnCall& call : calls) {
    const LinearCall seen{call.linear, call.y, call.linear->weight.rows};
    observer_->OnLinear(call.x, call.tokens, {&seen, 1});
  }
}

void LinearRunner::RunGated(std::span<const GatedCall> calls) {
  if (observer_) {  // who wants to see what gate gives before up's is multiplied into it
    for (const GatedCall& call : calls) {
      const std::size_t width = call.gate->weight.rows;
      const std::size_t size = call.tokens * width;
      Run(call.x, call.tokens, {{call.gate, call.y, width}, {call.up, call.scratch, width}});
      GeluMul({call.y, size}, {call.scratch, size}, {call.y, size});
    }
    return;
  }
  std::size_t used = 0;
  AllRows all;
  std::vector<std::pair<std::size_t, std::size_t>> inputs;  // of gate and up
  for (const GatedCall& call : calls) {
    const std::size_t gate = Prepare(*call.gate, call.x, call.tokens, &used);
    inputs.emplace_back(gate, Prepare(*call.up, call.x, call.tokens, &used));
    all.Add(call.gate->weight, call.tokens, 2.0);
  }
  const auto rows = [&](std::size_t i) { return calls[i].gate->weight.rows; };
  parallel_.For(all.rows, kRowStep, all.RowsCost(), [&](std::size_t begin, std::size_t end) {
    ForCalls(begin, end, rows, [&](std::size_t i, std::size_t from, std::size_t to) {
      const GatedCall& call = calls[i];
      Rows(*call.gate, inputs_[inputs[i].first], from, to, call.y, rows(i));
      Rows(*call.up, inputs_[inputs[i].second], from, to, call.scratch, rows(i));
      for (std::size_t t = 0; t < call.tokens; ++t) {
        const std::span<float> gated(call.y + t * rows(i) + from, to - from);
        GeluMul(gated, {call.scratch + t * rows(i) + from, to - from}, gated);
      }
    });
  });
}

}  // namespace gemmule
