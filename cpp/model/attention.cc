#include "model/attention.h"

#include <algorithm>
#include <bit>

namespace gemmule {
namespace {

// The tiles of a shape: by tokens, then by heads.
class Tiles {
 public:
  Tiles(const AttentionShape& shape, float* q)
      : shape_(shape),
        q_(q),
        sharing_(shape.heads / shape.kv_heads),
        heads_(std::min(sharing_, QueryTile::kMaxQueries)),
        tokens_(std::bit_floor(QueryTile::kMaxQueries / heads_)),
        pieces_((sharing_ + heads_ - 1) / heads_),
        first_(shape.position / tokens_) {}

  std::size_t count() const {
    const std::size_t end = (shape_.position + shape_.tokens - 1) / tokens_ + 1;
    return (end - first_) * shape_.kv_heads * pieces_;
  }

  QueryTile operator[](std::size_t i) const {
    const std::size_t piece = i % pieces_;
    const std::size_t kv_head = i / pieces_ % shape_.kv_heads;
    const std::size_t first = (first_ + i / (pieces_ * shape_.kv_heads)) * tokens_;
    const std::size_t position = std::max(first, shape_.position);
    const std::size_t end = std::min(first + tokens_, shape_.position + shape_.tokens);
    const std::size_t token_stride = shape_.heads * shape_.head_dim;
    const std::size_t head = kv_head * sharing_ + piece * heads_;
    return {.kv_head = kv_head,
            .heads = std::min(heads_, sharing_ - piece * heads_),
            .tokens = end - position,
            .position = position,
            .window = shape_.window,
            .head_dim = shape_.head_dim,
            .q = q_ + (position - shape_.position) * token_stride + head * shape_.head_dim,
            .token_stride = token_stride};
  }

 private:
  const AttentionShape& shape_;
  float* q_;
  std::size_t sharing_;  // heads of queries to a head of keys
  std::size_t heads_;    // of a tile
  std::size_t tokens_;   // of a tile: tiles begin at multiples of it, which divides a block
  std::size_t pieces_;   // tiles that share a head of keys
  std::size_t first_;    // token tile
};

}  // namespace

void AttentionRunner::Run(const KvView& kv, const AttentionShape& shape, float* q) {
  constexpr std::size_t kFewTiles = 8;    // so few are cut into spans
  constexpr double kMultiplyAdds = 50.0;  // a nanosecond
  const Tiles tiles(shape, q);
  const std::size_t floats = TileFloats(kv.encoding, shape.head_dim);
  const std::size_t seen = std::min(shape.window, shape.position + shape.tokens);
  const double cost = static_cast<double>(2 * seen * shape.head_dim * QueryTile::kMaxQueries) / kMultiplyAdds;  // ns
  if (tiles.count() > kFewTiles) {
    parallel_.For(tiles.count(), 1, cost, [&](std::size_t begin, std::size_t end) {
      alignas(64) float answers[TileFloats(Encoding::kF32, kMaxHeadDim)];
      for (std::size_t i = begin; i < end; ++i) {
        const QueryTile tile = tiles[i];
        AttendSpans(kv, tile, tile.FirstSpan(), tile.EndSpan(), answers);
        FinishAttend(kv, tile, answers, 1);
      }
    });
    return;
  }
  std::size_t spans = 0;  // of a tile, at most
  for (std::size_t i = 0; i < tiles.count(); ++i) spans = std::max(spans, tiles[i].EndSpan() - tiles[i].FirstSpan());
  parts_.Reserve(tiles.count() * spans * floats);
  parallel_.For(tiles.count() * spans, 1, cost / static_cast<double>(spans), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const QueryTile tile = tiles[i / spans];
      const std::size_t span = tile.FirstSpan() + i % spans;
      if (span < tile.EndSpan()) AttendSpans(kv, tile, span, span + 1, parts_.data() + i * floats);
    }
  });
  parallel_.For(tiles.count(), 1, 0.1 * static_cast<double>(spans * floats), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const QueryTile tile = tiles[i];
      FinishAttend(kv, tile, parts_.data() + i * spans * floats, tile.EndSpan() - tile.FirstSpan());
    }
  });
}

}  // namespace gemmule
