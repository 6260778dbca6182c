#pragma once

#include <cstddef>
#include <span>

namespace gemmule {

// The largest of x (n,); a NaN is not looked at. -infinity where nothing is left. Single-threaded, allocates nothing.
float Largest(std::span<const float> x) noexcept;

// out[i] = Largest(x[i * block, (i + 1) * block)), the last block cut at n. out has as many as there are blocks.
void LargestOfBlocks(std::span<const float> x, std::size_t block, std::span<float> out) noexcept;

}  // namespace gemmule
