// Two models on the same text, token by token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/parallel.h"
#include "engine/decoder.h"

namespace gemmule {

// One value a token, (N,) each: of ids[first], ..., each after all tokens before it.
struct Comparison {
  std::span<double> nll;            // -ln p of the token by the model, nats
  std::span<double> reference_nll;  // by the reference
  std::span<double> kl;             // divergence of the model's distribution from the reference's, nats
  std::span<bool> same_top;         // whether their likeliest tokens are the same, of equals the lowest ids
};

// Appends `ids` (T,) to both, 1 <= first <= T, N = T - first. A few rows of logits are held at a time. Throws as the
// calls of Decoder do, and ArgumentError where the vocabularies differ in size.
void Compare(Decoder& model, Decoder& reference, std::span<const std::int32_t> ids, std::size_t first,
             const Comparison& out, const Parallel::StopCheck& stop);

}  // namespace gemmule
