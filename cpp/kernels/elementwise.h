// Operations on single elements. None of them allocates or starts threads; x and y may be the same, else must not
// overlap.
#pragma once

#include <span>

namespace gemmule {

// y = e^x, relative error at most 2^-22 in [-87.3, 88.3]; 0 below, e^88.3 above.
void Exp(std::span<const float> x, std::span<float> y) noexcept;

// y = gelu(gate) * up with the tanh approximation: gelu(x) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3),
// which equals 0.5 x (1 + tanh u) and keeps its relative precision for large negative x.
void GeluMul(std::span<const float> gate, std::span<const float> up, std::span<float> y) noexcept;

// x = cap * tanh(x / cap), in place. Absolute error at most 2^-21 cap.
void Softcap(float cap, std::span<float> x) noexcept;

// x = clamp(round_half_even(x / scale), -128, 127) * scale, in place: the mobile format's 8-bit rounding of activations
// ("SRQ"). scale 0: nothing is done.
void RoundToGrid(float scale, std::span<float> x) noexcept;

// y += x
void AddTo(std::span<const float> x, std::span<float> y) noexcept;

// x *= factor, in place
void Scale(float factor, std::span<float> x) noexcept;

}  // namespace gemmule
