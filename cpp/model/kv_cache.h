// Keys and values of one conversation, for the layers that make them.
//
// Full layers keep all positions in blocks that are added as they fill. Sliding layers keep a ring of blocks just long
// enough for one window and one chunk of new tokens: a chunk that is broken off has overwritten nothing that the
// positions before it still need.
//
// Forks share blocks. Whichever of them writes into a shared block first makes a copy of it for itself.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <unordered_set>
#include <vector>

#include "base/buffer.h"
#include "kernels/kv_block.h"
#include "model/model.h"

namespace gemmule {

class KvCache {
 public:
  // `chunk`: the most tokens added at once.
  KvCache(const Model& model, std::size_t chunk);

  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&&) = default;

  // A cache that holds the same, and shares all blocks. Costs their pointers now; later, for either of the two, a copy
  // of each block that it goes on to write into: the last one of a full layer, and in time a sliding layer's ring.
  KvCache Fork();

  // Makes room for positions [begin, end), which are written next.
  void Reserve(std::size_t begin, std::size_t end);

  // Stores what one position contributes. keys, values: (G E,). The position has been reserved, with none before it
  // since written. Safe from several threads for different positions.
  void Write(std::size_t layer, std::size_t position, std::span<const float> keys, std::span<const float> values);

  // `layer` owns its keys (LayerConfig::kv_owner).
  KvView View(std::size_t layer) const;

  // True while positions [length - W + 1, length) of every sliding layer are still there: a conversation may then go
  // on from `length`.
  bool Holds(std::size_t length) const;

  // Bytes of all blocks, those that others share too.
  std::size_t bytes() const;
  // Bytes of the blocks that are not in `counted`, where they are added.
  std::size_t CountBytes(std::unordered_set<const std::byte*>& counted) const;

  // What a layer keeps of a sequence, so that it can go on behind it: PositionBytes for each of its last positions, in
  // order.
  struct Extent {
    std::size_t layer = 0;
    Encoding encoding = Encoding::kF32;
    std::size_t head_dim = 0;             // E
    std::size_t num_key_value_heads = 0;  // G
    std::size_t first = 0;                // position; later ones follow up to the sequence's end
    std::size_t bytes = 0;
  };

  // Of every layer that owns its keys, after `length` tokens; sliding layers keep W - 1 positions. Nothing has to be in
  // the cache. Throws FormatError where the sizes overflow.
  std::vector<Extent> Extents(std::size_t length) const;
  // Copies one of Extents(length) out; Holds(length), and out.size() == extent.bytes.
  void Export(const Extent& extent, std::span<std::byte> out) const;
  // Makes an empty cache one of `length` tokens, from all of Extents(length) as Export gave them. Throws FormatError,
  // and is still empty, where states are missing, of another size, or not finite.
  void Import(std::size_t length, std::span<const std::span<const std::byte>> states);

 private:
  struct Block {
    std::shared_ptr<Buffer<std::byte>> buffer;
    bool is_shared = false;  // maybe another cache's too: never written into
  };
  struct LayerCache {
    Encoding encoding = Encoding::kF32;
    std::size_t head_dim = 0;   // E
    std::size_t heads = 0;      // G
    std::size_t row_bytes = 0;  // of one position's keys, and of its values
    std::size_t ring = 0;       // blocks at most; 0: no limit, and none for layers that own nothing
    float k_scale = 0.0f;       // for codes
    float v_scale = 0.0f;
    std::vector<Block> blocks;
    std::vector<const std::byte*> pointers;  // to `blocks`, as KvView wants them
  };

  KvCache(const KvCache&) = default;

  std::byte* BlockToWrite(LayerCache& layer, std::size_t position) {
    return layer.blocks[position / KvView::kBlock % layer.blocks.size()].buffer->data();
  }

  std::size_t window_;        // W
  std::size_t reserved_ = 0;  // positions ever made room for
  std::size_t oldest_ = 0;    // the first position that sliding layers had after Import
  std::vector<LayerCache> layers_;
};

}  // namespace gemmule
