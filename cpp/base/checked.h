// Size arithmetic on numbers that come from files: the result, or nothing where it would overflow. Readers of formats
// count with it; behind them, sizes have the limits of engine/config_rules.h, which this header shows to be small
// enough.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

namespace gemmule {

constexpr std::optional<std::uint64_t> CheckedAdd(std::uint64_t a, std::uint64_t b) {
  if (a > std::numeric_limits<std::uint64_t>::max() - b) return std::nullopt;
  return a + b;
}

constexpr std::optional<std::uint64_t> CheckedMul(std::uint64_t a, std::uint64_t b) {
  if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) return std::nullopt;
  return a * b;
}

// The product of all; nothing where a part of it, in this order, overflows.
template <class... More>
constexpr std::optional<std::uint64_t> CheckedMul(std::uint64_t a, std::uint64_t b, std::uint64_t c, More... more) {
  const auto product = CheckedMul(a, b);
  return product ? CheckedMul(*product, c, more...) : std::nullopt;
}

// The smallest multiple of `alignment`, a power of two, that is at least n.
constexpr std::optional<std::uint64_t> CheckedAlign(std::uint64_t n, std::uint64_t alignment) {
  const auto sum = CheckedAdd(n, alignment - 1);
  return sum ? std::optional(*sum & ~(alignment - 1)) : std::nullopt;
}

}  // namespace gemmule
