// The weights of one checkpoint, under the checkpoint's own names. Matrices and their scales are views of mapped files;
// vectors (norm weights) are few and short, and are kept as float32.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "quant/matrix.h"

namespace gemmule {

// y = round_out(W round_in(x)), where round_* is the mobile format's static 8-bit rounding. No bias.
struct Linear {
  std::string name;           // as in the file, without ".weight"
  MatrixView weight;          // (out, in)
  float input_scale = 0.0f;   // input_activation_scale; 0: x is not rounded
  float output_scale = 0.0f;  // output_activation_scale; 0: y is not rounded
  // Nothing rounds what is made of y (the head's logits): where input_scale is 0, 16 bits of x are then enough. Before
  // a rounding the smallest error moves some values by a whole step, and x keeps all its bits.
  bool is_last = false;
};

// A table of which only single rows are read: they come from the file, not from its map.
struct Embedding {
  std::string name;
  Encoding encoding = Encoding::kF32;
  std::size_t cols = 0;
  std::unique_ptr<RowSource> codes;   // (V, cols) elements
  std::unique_ptr<RowSource> scales;  // (V, S), S divides cols; null for floats and blocks that hold their own
  Encoding scale_encoding = Encoding::kF32;
  float multiplier = 1.0f;  // sqrt(D), for the per-layer table sqrt(P); a row is element * scale * multiplier
  MatrixView whole = {};    // all of it, mapped, without the multiplier: for those who read it from end to end

  // out (cols,) = the scaled row. Throws ResourceError when the file cannot be read, FormatError when the row holds NaN
  // or infinity: rounding to static scales would make ordinary numbers of them.
  void Read(std::size_t row, std::span<float> out) const;
};

// The same matrix of every expert, one after another in the file: floats, or blocks that hold their own scales.
struct ExpertMatrices {
  Encoding encoding = Encoding::kF32;
  const std::byte* data = nullptr;  // expert 0's
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;  // bytes from expert to expert

  MatrixView Expert(std::size_t i) const { return {encoding, data + i * stride, rows, cols}; }
};

struct Router {
  std::vector<float> scale;             // (D,)
  Linear proj;                          // (X, D)
  std::vector<float> per_expert_scale;  // (X,)
};

struct LayerWeights {
  std::vector<float> input_layernorm;             // (D,)
  std::vector<float> post_attention_layernorm;    // (D,)
  std::vector<float> pre_feedforward_layernorm;   // (D,)
  std::vector<float> post_feedforward_layernorm;  // (D,)
  float layer_scalar = 1.0f;

  Linear q_proj;               // (H E, D)
  Linear k_proj;               // (G E, D); unused on layers that share another's keys and values
  Linear v_proj;               // (G E, D); likewise, and where has_v_proj is false
  Linear o_proj;               // (D, H E)
  std::vector<float> q_norm;   // (E,)
  std::vector<float> k_norm;   // (E,)
  float k_cache_scale = 0.0f;  // of the static cache; 0: not calibrated
  float v_cache_scale = 0.0f;

  Linear gate_proj;  // (F, D)
  Linear up_proj;    // (F, D)
  Linear down_proj;  // (D, F)

  // Experts, where X > 0, beside the dense MLP.
  Router router;
  ExpertMatrices gate_experts;                      // (X, M, D)
  ExpertMatrices up_experts;                        // (X, M, D)
  ExpertMatrices down_experts;                      // (X, D, M)
  std::vector<float> post_feedforward_layernorm_1;  // (D,), after the dense MLP
  std::vector<float> pre_feedforward_layernorm_2;   // (D,), before the experts
  std::vector<float> post_feedforward_layernorm_2;  // (D,), after the experts

  // Per-layer input, where P > 0.
  Linear per_layer_input_gate;                   // (P, D)
  Linear per_layer_projection;                   // (D, P)
  std::vector<float> post_per_layer_input_norm;  // (D,)
};

struct Weights {
  Embedding embed_tokens;                        // (V, D)
  Embedding embed_tokens_per_layer;              // (V, L P); layer i has columns [i P, (i + 1) P)
  Linear per_layer_model_projection;             // (L P, D)
  std::vector<float> per_layer_projection_norm;  // (P,)
  std::vector<LayerWeights> layers;              // L
  std::vector<float> norm;                       // (D,)
  Linear lm_head;                                // (V, D); the embedding's rows where tied
};

// Calls visit(linear) for every linear module in use.
template <class Visit>
void ForEachLinear(const Weights& weights, const Visit& visit) {
  const auto used = [&](const Linear& linear) {
    if (linear.weight.data != nullptr) visit(linear);
  };
  used(weights.per_layer_model_projection);
  for (const LayerWeights& layer : weights.layers) {
    for (const Linear* linear :
         {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj, &layer.gate_proj, &layer.up_proj,
          &layer.down_proj, &layer.per_layer_input_gate, &layer.per_layer_projection, &layer.router.proj}) {
      used(*linear);
    }
  }
  used(weights.lm_head);
}

}  // namespace gemmule
