#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>

#include "kernels/kv_block.h"
#include "kernels/steps.h"

namespace gemmule {

// Queries that read the same keys together: those of R heads that share a key head, of T neighbouring tokens. The
// tokens lie in one block of positions. Position p sees the keys (p - window, p].
struct QueryTile {
  static constexpr std::size_t kMaxQueries = 8;

  std::size_t kv_head = 0;
  std::size_t heads = 0;     // R
  std::size_t tokens = 0;    // T; R T <= kMaxQueries
  std::size_t position = 0;  // of the first token
  std::size_t window = 0;
  std::size_t head_dim = 0;      // E <= kMaxHeadDim, even
  float* q = nullptr;            // (T, R, E), then the answers; heads side by side
  std::size_t token_stride = 0;  // floats from token to token

  std::size_t queries() const { return tokens * heads; }
  float* Query(std::size_t i) const { return q + i / heads * token_stride + i % heads * head_dim; }
  // The keys [First, Last) of query i.
  std::size_t First(std::size_t i) const { return Last(i) - std::min(Last(i), window); }
  std::size_t Last(std::size_t i) const { return position + i / heads + 1; }

  // Spans are runs of blocks whose sums are made apart, by any threads, and then added in order. They begin at
  // multiples of SpanBlocks, which doubles whenever there would be more than about 32 of them.
  std::size_t SpanBlocks() const {
    const std::size_t blocks = std::min(position / KvView::kBlock + 1, (window - 1) / KvView::kBlock + 2);
    return std::bit_ceil((blocks + 31) / 32);
  }
  std::size_t FirstSpan() const { return First(0) / KvView::kBlock / SpanBlocks(); }
  std::size_t EndSpan() const { return position / KvView::kBlock / SpanBlocks() + 1; }
};

// Floats of the unfinished answers of a tile: for each query the maximum of its scores, the sum of its weights and the
// weighted sum of the values.
constexpr std::size_t kAnswerHead = 16;
constexpr std::size_t AnswerFloats(Encoding encoding, std::size_t e) { return kAnswerHead + StepFloats(encoding, e); }
constexpr std::size_t TileFloats(Encoding encoding, std::size_t e) {
  return QueryTile::kMaxQueries * AnswerFloats(encoding, e);
}

// answers (TileFloats) = softmax(q . k_j)_j v_j, unfinished, over the keys j of spans [begin, end); score scale 1.
//
// One pass with a running maximum over the blocks of a span; spans are added in order. Calls for parts of the spans and
// FinishAttend thus give the bits of one call for all. The order of a query's operations depends on its position and
// window alone: not on what shares its tile, on how the positions were filled or on the number of blocks. Error: about
// 2^-20 of max |v|. Single-threaded, allocates nothing.
void AttendSpans(const KvView& kv, const QueryTile& tile, std::size_t begin, std::size_t end, float* answers) noexcept;

// tile.q = the answers, of `parts` parts in order, TileFloats each. The first part is used up.
void FinishAttend(const KvView& kv, const QueryTile& tile, float* answers, std::size_t parts) noexcept;

}  // namespace gemmule
