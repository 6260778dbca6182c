// Keys and values of one conversation, for the layers that make them.
//
// Full layers keep all positions in blocks that are added as they fill. Sliding layers keep a ring of blocks just long
// enough for one window and one chunk of new tokens: a chunk that is broken off has overwritten nothing that the
// positions before it still need.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "kernels/kv_block.h"
#include "model/model.h"

namespace gemmule {

class KvCache {
 public:
  // `chunk`: the most tokens added at once.
  KvCache(const Model& model, std::size_t chunk);

  // Makes room for positions up to `end`.
  void Reserve(std::size_t end);

  // Stores what one position contributes. keys, values: (G E,). The position has been reserved. Safe from several
  // threads for different positions.
  void Write(std::size_t layer, std::size_t position, std::span<const float> keys, std::span<const float> values);

  // `layer` owns its keys (LayerConfig::kv_owner).
  KvView View(std::size_t layer) const;

  // True while positions [length - W + 1, length) of every sliding layer are still there: a conversation may then go
  // on from `length`.
  bool Holds(std::size_t length) const;

  std::size_t bytes() const;

 private:
  struct LayerCache {
    Encoding encoding = Encoding::kF32;
    std::size_t head_dim = 0;   // E
    std::size_t row_bytes = 0;  // of one position's keys, and of its values
    std::size_t ring = 0;       // blocks at most; 0: no limit, and none for layers that own nothing
    float k_scale = 0.0f;       // for codes
    float v_scale = 0.0f;
    std::vector<Buffer<std::byte>> blocks;
    std::vector<const std::byte*> pointers;  // to `blocks`, as KvView wants them
  };

  std::size_t window_;        // W
  std::size_t reserved_ = 0;  // positions ever made room for
  std::vector<LayerCache> layers_;
};

}  // namespace gemmule
