#pragma once

#include <span>

namespace gemmule {

// ln(sum of e^x), nats. x (n,), n >= 1. Absolute error at most 2e-6 for n <= 2^20. -infinity where every x is.
// Single-threaded, allocates nothing.
double LogSumExp(std::span<const float> x) noexcept;

}  // namespace gemmule
