#pragma once

#include <span>

namespace gemmule {

// The largest of x (n,); a NaN is not looked at. -infinity where nothing is left. Single-threaded, allocates nothing.
float Largest(std::span<const float> x) noexcept;

}  // namespace gemmule
