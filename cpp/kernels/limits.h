// What a core can do at most: nothing but reading, nothing but multiplying.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace gemmule {

// The sum of all 32-bit words, modulo 2^32: reads every byte once, in order. data: any alignment, whole vectors of 64
// bytes. Single-threaded, allocates nothing.
std::uint32_t SumWords(std::span<const std::byte> data) noexcept;

// `rounds` times as many products of bytes and additions as registers hold, nothing else: by the target's dot product
// of bytes into int32 where it has one, else by its products of bytes into int16, which is less than any exact kernel
// does. Returns the number of multiply-adds; 0 if the sums are wrong. Single-threaded, allocates nothing.
std::uint64_t MultiplyAdds(std::size_t rounds) noexcept;

}  // namespace gemmule
