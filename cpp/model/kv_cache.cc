#include "model/kv_cache.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "quant/scale_view.h"

namespace gemmule {
namespace {

Encoding CacheEncoding(KvMode mode, LayerType type) {
  switch (mode) {
    case KvMode::kFloat32: return Encoding::kF32;
    case KvMode::kBf16: return Encoding::kBF16;
    case KvMode::kStatic: return type == LayerType::kSliding ? Encoding::kC8 : Encoding::kC4;
  }
  return Encoding::kF32;
}

std::size_t BlocksFor(std::size_t positions) { return (positions + KvView::kBlock - 1) / KvView::kBlock; }

// The first position that a sliding layer needs behind `length` tokens.
std::size_t Oldest(std::size_t length, std::size_t window) { return length + 1 > window ? length + 1 - window : 0; }

// Throws FormatError for a state of another size, or with a number in it that no layer gives.
void CheckState(const KvCache::Extent& extent, std::span<const std::byte> state) {
  const std::string name = "layer " + std::to_string(extent.layer);
  if (state.size() != extent.bytes) {
    throw FormatError("the state has another size than its layer's keys and values",
                      {.tensor = name,
                       .expected = std::to_string(extent.bytes) + " bytes",
                       .found = std::to_string(state.size()) + " bytes"});
  }
  if (IsCoded(extent.encoding)) return;
  for (std::size_t i = 0; i < state.size() / RowBytes(extent.encoding, 1); ++i) {
    if (!std::isfinite(FloatAt(extent.encoding, state.data(), i))) {
      throw FormatError("the state holds a number that is not finite",
                        {.tensor = name, .expected = "finite numbers", .found = "NaN or infinity"});
    }
  }
}

}  // namespace

KvCache::KvCache(const Model& model, std::size_t chunk) : window_(model.config.sliding_window) {
  layers_.resize(model.config.layers.size());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LayerConfig& config = model.config.layers[i];
    if (config.kv_owner != i) continue;
    LayerCache& layer = layers_[i];
    layer.encoding = CacheEncoding(model.kv, config.type);
    layer.head_dim = config.head_dim;
    layer.heads = config.num_key_value_heads;
    layer.row_bytes = config.num_key_value_heads * HeadBytes(layer.encoding, config.head_dim);
    // The window before the chunk and the chunk, wherever in a block they begin.
    if (config.type == LayerType::kSliding) layer.ring = (window_ - 1 + chunk - 1) / KvView::kBlock + 2;
    layer.k_scale = model.weights.layers[i].k_cache_scale;
    layer.v_scale = model.weights.layers[i].v_cache_scale;
  }
}

KvCache KvCache::Fork() {
  for (LayerCache& layer : layers_) {
    for (Block& block : layer.blocks) block.is_shared = true;
  }
  return *this;
}

void KvCache::Reserve(std::size_t begin, std::size_t end) {
  if (begin == 0) reserved_ = oldest_ = 0;  // a sequence of its own: nothing of another one counts
  const std::size_t wanted = BlocksFor(end);
  for (LayerCache& layer : layers_) {
    if (layer.row_bytes == 0) continue;
    const std::size_t blocks = layer.ring == 0 ? wanted : std::min(wanted, layer.ring);
    while (layer.blocks.size() < blocks) {
      layer.pointers.reserve(layer.blocks.size() + 1);
      layer.blocks.push_back({std::make_shared<Buffer<std::byte>>(2 * KvView::kBlock * layer.row_bytes)});
      layer.pointers.push_back(layer.blocks.back().buffer->data());
    }
    for (std::size_t i = begin / KvView::kBlock; i < wanted; ++i) {
      const std::size_t place = i % layer.blocks.size();
      Block& block = layer.blocks[place];
      if (!block.is_shared) continue;
      auto copy = std::make_shared<Buffer<std::byte>>(block.buffer->size());
      std::copy_n(block.buffer->data(), block.buffer->size(), copy->data());
      block = {std::move(copy)};
      layer.pointers[place] = block.buffer->data();
    }
  }
  reserved_ = std::max(reserved_, end);
}

void KvCache::Write(std::size_t layer_index, std::size_t position, std::span<const float> keys,
                    std::span<const float> values) {
  LayerCache& layer = layers_[layer_index];
  StoreKeysValues(layer.encoding, keys, values, layer.head_dim, layer.k_scale, layer.v_scale, position,
                  BlockToWrite(layer, position));
}

KvView KvCache::View(std::size_t layer_index) const {
  const LayerCache& layer = layers_[layer_index];
  const bool coded = IsCoded(layer.encoding);
  return {layer.encoding, layer.pointers, layer.row_bytes, coded ? layer.k_scale : 1.0f, coded ? layer.v_scale : 1.0f};
}

bool KvCache::Holds(std::size_t length) const {
  const std::size_t needed = Oldest(length, window_);
  for (const LayerCache& layer : layers_) {
    if (layer.ring == 0 || reserved_ == 0) continue;
    const std::size_t last_block = (reserved_ - 1) / KvView::kBlock;
    const std::size_t oldest_block = last_block + 1 > layer.ring ? last_block + 1 - layer.ring : 0;
    if (needed < std::max(oldest_, oldest_block * KvView::kBlock)) return false;
  }
  return true;
}

std::size_t KvCache::bytes() const {
  std::unordered_set<const std::byte*> counted;
  return CountBytes(counted);
}

std::size_t KvCache::CountBytes(std::unordered_set<const std::byte*>& counted) const {
  std::size_t total = 0;
  for (const LayerCache& layer : layers_) {
    for (const Block& block : layer.blocks) {
      if (counted.insert(block.buffer->data()).second) total += block.buffer->size();
    }
  }
  return total;
}

std::vector<KvCache::Extent> KvCache::Extents(std::size_t length) const {
  std::vector<Extent> extents;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LayerCache& layer = layers_[i];
    if (layer.row_bytes == 0) continue;
    const std::size_t first = layer.ring == 0 ? 0 : Oldest(length, window_);
    const auto bytes = CheckedMul(length - first, PositionBytes(layer.encoding, layer.heads, layer.head_dim));
    if (!bytes) throw FormatError("the state of " + std::to_string(length) + " tokens is larger than any memory");
    extents.push_back({i, layer.encoding, layer.head_dim, layer.heads, first, *bytes});
  }
  return extents;
}

void KvCache::Export(const Extent& extent, std::span<std::byte> out) const {
  const LayerCache& layer = layers_[extent.layer];
  const std::size_t step = PositionBytes(layer.encoding, layer.heads, layer.head_dim);
  for (std::size_t i = 0; i < out.size() / step; ++i) {
    const std::size_t position = extent.first + i;
    const std::byte* block = layer.pointers[position / KvView::kBlock % layer.pointers.size()];
    CopyFromBlock(layer.encoding, layer.heads, layer.head_dim, position, block, out.data() + i * step);
  }
}

void KvCache::Import(std::size_t length, std::span<const std::span<const std::byte>> states) {
  const std::vector<Extent> extents = Extents(length);
  if (states.size() != extents.size()) {
    throw FormatError("a cache needs the states of all layers that own keys and values",
                      {.expected = std::to_string(extents.size()) + " states", .found = std::to_string(states.size())});
  }
  for (std::size_t n = 0; n < extents.size(); ++n) CheckState(extents[n], states[n]);
  Reserve(0, length);
  oldest_ = Oldest(length, window_);
  for (std::size_t n = 0; n < extents.size(); ++n) {
    LayerCache& layer = layers_[extents[n].layer];
    const std::size_t step = PositionBytes(layer.encoding, layer.heads, layer.head_dim);
    for (std::size_t i = 0; i < states[n].size() / step; ++i) {
      const std::size_t position = extents[n].first + i;
      CopyIntoBlock(layer.encoding, layer.heads, layer.head_dim, position, states[n].data() + i * step,
                    BlockToWrite(layer, position));
    }
  }
}

}  // namespace gemmule
