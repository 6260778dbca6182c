#pragma once

#include <span>

namespace gemmule {

// Kullback-Leibler divergence of q = softmax(logits) from p = softmax(reference), nats: sum of p (ln p - ln q).
//
//   reference, logits          (n,)  finite, n >= 1
//   reference_lse, logits_lse  LogSumExp of each, nats
//
// Never negative, and exactly 0 where both rows are the same. Error at most 2^-17 of the result + 1e-11 for logits of
// at most 30 in size, as the softcap leaves them. Single-threaded, allocates nothing.
double KlDivergence(std::span<const float> reference, double reference_lse, std::span<const float> logits,
                    double logits_lse) noexcept;

}  // namespace gemmule
