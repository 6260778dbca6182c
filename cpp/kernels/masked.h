#pragma once

#include <cstdint>
#include <span>

namespace gemmule {

// out[i] = x[i] where bit i % 8 of bits[i / 8] is set, else -infinity. x, out (n,), not the same; bits: n / 8 bytes,
// rounded up. Single-threaded, allocates nothing.
void Masked(std::span<const float> x, std::span<const std::uint8_t> bits, std::span<float> out) noexcept;

}  // namespace gemmule
