// Expert layers: a router picks a few of X small MLPs for each token; only the chosen ones' rows are read.
#pragma once

#include <cstddef>
#include <vector>

#include "base/buffer.h"
#include "base/parallel.h"
#include "model/config.h"
#include "model/linear.h"
#include "model/weights.h"

namespace gemmule {

class Experts {
 public:
  // All three must outlive it.
  Experts(const Config& config, LinearRunner& linear, Parallel& parallel)
      : config_(config), linear_(linear), parallel_(parallel) {}

  // out[t] = sum over the chosen experts e of weight[t][e] * down_e(gelu(gate_e z[t]) * up_e z[t]), e ascending.
  //
  //   residual  (T, D)  the stream before the feed-forward block; the router sees this
  //   z         (T, D)  the same, normed for the experts
  //   out       (T, D)
  //
  // Source: transformers models/gemma4/modeling_gemma4.py, Gemma4TextRouter and Gemma4TextExperts.
  void Run(const LayerWeights& layer, const float* residual, const float* z, std::size_t tokens, float* out);

 private:
  // A token that an expert sees, and how much its answer counts.
  struct Visit {
    std::size_t token;
    float weight;
    std::size_t row;  // among all visits, expert by expert
  };

  // Fills visits_, tokens ascending: softmax over all experts, the top_k_experts likeliest (lowest index on ties),
  // their probabilities divided by their sum and multiplied by per_expert_scale.
  void Route(const Router& router, const float* residual, std::size_t tokens);

  const Config& config_;
  LinearRunner& linear_;
  Parallel& parallel_;
  std::vector<std::vector<Visit>> visits_;    // of each expert
  std::vector<std::vector<Visit>> of_token_;  // the same, experts ascending
  Buffer<float> routed_;                      // (T, D) the router's input
  Buffer<float> scores_;                      // (T, X)
  Buffer<float> input_;                       // (n, D) what the experts see, a row for each visit
  Buffer<float> gated_;                       // (n, M)
  Buffer<float> up_;                          // (n, M)
  Buffer<float> answer_;                      // (n, D)
};

}  // namespace gemmule
