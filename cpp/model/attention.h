// Attention of a chunk's queries over their sequences' caches, shared out among threads.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/parallel.h"
#include "kernels/attend.h"

namespace gemmule {

// What a layer's attention looks like: position p sees the keys (p - window, p].
struct AttentionShape {
  std::size_t window = 0;    // keys; kNoWindow: all that is before
  std::size_t heads = 0;     // H, a multiple of G
  std::size_t kv_heads = 0;  // G
  std::size_t head_dim = 0;  // E

  static constexpr std::size_t kNoWindow = static_cast<std::size_t>(-1);
};

// Tokens of one sequence in a row, whose own keys are in its cache already.
struct AttentionSegment {
  KvView kv;
  std::size_t position = 0;  // of the first token
  std::size_t tokens = 0;
};

class AttentionRunner {
 public:
  // `parallel` must outlive it.
  explicit AttentionRunner(Parallel& parallel) : parallel_(parallel) {}

  // q (T, H, E) becomes the answers: the segments' tokens end to end. The bits of a token's answer depend on no other
  // token and on no number of threads.
  void Run(std::span<const AttentionSegment> segments, const AttentionShape& shape, float* q);

 private:
  // Queries that read the same keys of a segment.
  struct Tile {
    const KvView* kv;
    QueryTile queries;
    std::size_t parts;  // into which it is cut; 0: it is done in one piece
    float* answers;     // of the parts, unfinished
  };
  // The spans [begin, end) of a tile.
  struct Piece {
    const Tile* tile;
    std::size_t begin;
    std::size_t end;
    float* answers;  // null: a whole tile, to be finished
  };

  void AddTiles(const AttentionSegment& segment, const AttentionShape& shape, float* q);
  void CutTiles();

  Parallel& parallel_;
  std::vector<Tile> tiles_;    // of a call
  std::vector<Piece> pieces_;  // likewise
  Buffer<float> parts_;        // their unfinished answers
};

}  // namespace gemmule
