// The order in which integer products go over rows and tokens.

#if defined(GEMMULE_KERNELS_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_TILES_INL_H_
#undef GEMMULE_KERNELS_TILES_INL_H_
#else
#define GEMMULE_KERNELS_TILES_INL_H_
#endif

#include <cstddef>
#include <type_traits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Rows [row_begin, row_end) for tokens [t, tokens), kTile tokens at a time, then what is left by smaller tiles. A
// tile's activations stay in the first-level cache while the rows go by.
template <std::size_t kTile, class Body>
HWY_INLINE void ForTokenTiles(std::size_t row_begin, std::size_t row_end, std::size_t t, std::size_t tokens,
                              const Body& body) {
  for (; t + kTile <= tokens; t += kTile) {
    for (std::size_t row = row_begin; row < row_end; ++row) body(row, t, std::integral_constant<std::size_t, kTile>());
  }
  if constexpr (kTile > 1) {
    if (t < tokens) ForTokenTiles<kTile / 2>(row_begin, row_end, t, tokens, body);
  }
}

// Calls body(row, t, kTokens) so that every row meets every token once: kTokens, an integral_constant, tokens from t
// on.
template <std::size_t kTile, class Body>
HWY_INLINE void ForTiles(std::size_t row_begin, std::size_t row_end, std::size_t tokens, const Body& body) {
  constexpr std::size_t kRowBlock = 16;  // rows that go by for each tile; they stay in the second-level cache
  for (std::size_t row = row_begin; row < row_end; row += kRowBlock) {
    ForTokenTiles<kTile>(row, HWY_MIN(row + kRowBlock, row_end), 0, tokens, body);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_TILES_INL_H_
