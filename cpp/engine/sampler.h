// Picks the next token from logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "base/exclusive.h"

namespace gemmule {

struct SamplerOptions {
  double temperature = 1.0;         // 0: the largest logit, lowest id on ties; every other option is ignored
  std::size_t top_k = 0;            // 0: off
  double top_p = 1.0;               // (0, 1]; 1: off
  double min_p = 0.0;               // [0, 1]; share of the largest probability; 0: off
  double repetition_penalty = 1.0;  // > 0; positive logits are divided by it, negative ones multiplied; 1: off
  std::uint64_t seed = 0;
};

// Not for two threads at once: a second call while one runs throws ArgumentError. The same seed and logits give the
// same tokens on every machine. Source of the order and of each rule: transformers generation/logits_process.py
// (repetition penalty, temperature, top_k, top_p, min_p).
class Sampler {
 public:
  // Throws ArgumentError for a value out of its range, NaN included.
  explicit Sampler(const SamplerOptions& options);

  // logits (V,), V >= 1; history: ids the repetition penalty falls on. Throws ArgumentError where no logit is finite.
  std::int32_t Sample(std::span<const float> logits, std::span<const std::int32_t> history);

 private:
  struct Candidate {
    float logit;
    std::int32_t id;
    double weight;  // e^(logit / temperature), of the best one 1
  };

  // The k best of `logits` become candidates, best first; with k = 0 all of them, in the order of their ids. NaN and
  // -infinity do not.
  void FindCandidates(std::span<const float> logits, std::size_t k);

  SamplerOptions options_;
  std::mt19937_64 random_;
  std::vector<float> penalized_;
  std::vector<float> largest_;
  std::vector<Candidate> candidates_;
  Exclusive in_use_{"sampler"};
};

}  // namespace gemmule
