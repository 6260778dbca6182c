#include "model/attention.h"

#include <algorithm>
#include <bit>

namespace gemmule {
namespace {

std::size_t Spans(const QueryTile& tile) { return tile.EndSpan() - tile.FirstSpan(); }

// Keys that a tile's queries see, roughly.
std::size_t Keys(const QueryTile& tile) { return tile.Last(0) - tile.First(0); }

}  // namespace

// By tokens, then by heads.
void AttentionRunner::AddTiles(const AttentionSegment& segment, const AttentionShape& shape, float* q) {
  const std::size_t sharing = shape.heads / shape.kv_heads;  // heads of queries to a head of keys
  const std::size_t heads = std::min(sharing, QueryTile::kMaxQueries);
  const std::size_t tokens = std::bit_floor(QueryTile::kMaxQueries / heads);  // divides a block
  const std::size_t token_stride = shape.heads * shape.head_dim;
  const std::size_t end = segment.position + segment.tokens;
  for (std::size_t position = segment.position; position < end;) {
    const std::size_t next = std::min(end, (position / tokens + 1) * tokens);  // tiles begin at multiples of `tokens`
    for (std::size_t head = 0; head < shape.heads;) {
      const std::size_t kv_head = head / sharing;
      const std::size_t next_head = std::min(head + heads, (kv_head + 1) * sharing);
      tiles_.push_back({.kv = &segment.kv,
                        .queries = {.kv_head = kv_head,
                                    .heads = next_head - head,
                                    .tokens = next - position,
                                    .position = position,
                                    .window = shape.window,
                                    .head_dim = shape.head_dim,
                                    .q = q + (position - segment.position) * token_stride + head * shape.head_dim,
                                    .token_stride = token_stride},
                        .parts = 0,
                        .answers = nullptr});
      head = next_head;
    }
    position = next;
  }
}

// Tiles that are a good part of all the work are cut into their spans: threads share a long sequence, alone or among
// short ones. There are at most kFewTiles of them, which bounds the memory of their parts.
void AttentionRunner::CutTiles() {
  constexpr std::size_t kFewTiles = 8;
  std::size_t spans = 0;
  for (const Tile& tile : tiles_) spans += Spans(tile.queries);
  std::size_t floats = 0;
  for (Tile& tile : tiles_) {
    const std::size_t own = Spans(tile.queries);
    if (own == 1 || own * kFewTiles < spans) continue;
    tile.parts = own;
    floats += own * TileFloats(tile.kv->encoding, tile.queries.head_dim);
  }
  parts_.Reserve(floats);
  float* answers = parts_.data();
  pieces_.clear();
  for (Tile& tile : tiles_) {
    const std::size_t first = tile.queries.FirstSpan();
    if (tile.parts == 0) {
      pieces_.push_back({&tile, first, tile.queries.EndSpan(), nullptr});
      continue;
    }
    tile.answers = answers;
    for (std::size_t part = 0; part < tile.parts; ++part) {
      pieces_.push_back({&tile, first + part, first + part + 1, answers});
      answers += TileFloats(tile.kv->encoding, tile.queries.head_dim);
    }
  }
}

void AttentionRunner::Run(std::span<const AttentionSegment> segments, const AttentionShape& shape, float* q) {
  constexpr double kMultiplyAdds = 50.0;  // a nanosecond
  tiles_.clear();
  for (const AttentionSegment& segment : segments) {
    AddTiles(segment, shape, q);
    q += segment.tokens * shape.heads * shape.head_dim;
  }
  CutTiles();
  std::size_t keys = 0;
  for (const Tile& tile : tiles_) keys += Keys(tile.queries);
  const double cost = static_cast<double>(2 * keys * shape.head_dim * QueryTile::kMaxQueries) / kMultiplyAdds;  // ns
  parallel_.For(pieces_.size(), 1, cost / static_cast<double>(pieces_.size()), [&](std::size_t begin, std::size_t end) {
    alignas(64) float answers[TileFloats(Encoding::kF32, kMaxHeadDim)];
    for (std::size_t i = begin; i < end; ++i) {
      const Piece& piece = pieces_[i];
      const Tile& tile = *piece.tile;
      const bool is_whole = piece.answers == nullptr;
      AttendSpans(*tile.kv, tile.queries, piece.begin, piece.end, is_whole ? answers : piece.answers);
      if (is_whole) FinishAttend(*tile.kv, tile.queries, answers, 1);
    }
  });
  const std::size_t finished = std::erase_if(tiles_, [](const Tile& tile) { return tile.parts == 0; });
  if (tiles_.empty()) return;
  const double parts = static_cast<double>(pieces_.size() - finished) / static_cast<double>(tiles_.size());  // of one
  const double floats = static_cast<double>(TileFloats(Encoding::kF32, shape.head_dim));
  parallel_.For(tiles_.size(), 1, 0.1 * parts * floats, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const Tile& tile = tiles_[i];
      FinishAttend(*tile.kv, tile.queries, tile.answers, tile.parts);
    }
  });
}

}  // namespace gemmule
