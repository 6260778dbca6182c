#include "model/kv_cache.h"

#include <algorithm>

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

}  // namespace

KvCache::KvCache(const Model& model, std::size_t chunk) : window_(model.config.sliding_window) {
  layers_.resize(model.config.layers.size());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LayerConfig& config = model.config.layers[i];
    if (config.kv_owner != i) continue;
    LayerCache& layer = layers_[i];
    layer.encoding = CacheEncoding(model.kv, config.type);
    layer.head_dim = config.head_dim;
    layer.row_bytes = config.num_key_value_heads * HeadBytes(layer.encoding, config.head_dim);
    // The window before the chunk and the chunk, wherever in a block they begin.
    if (config.type == LayerType::kSliding) layer.ring = (window_ - 1 + chunk - 1) / KvView::kBlock + 2;
    layer.k_scale = model.weights.layers[i].k_cache_scale;
    layer.v_scale = model.weights.layers[i].v_cache_scale;
  }
}

void KvCache::Reserve(std::size_t end) {
  const std::size_t wanted = (end + KvView::kBlock - 1) / KvView::kBlock;
  for (LayerCache& layer : layers_) {
    if (layer.row_bytes == 0) continue;
    const std::size_t blocks = layer.ring == 0 ? wanted : std::min(wanted, layer.ring);
    while (layer.blocks.size() < blocks) {
      layer.pointers.reserve(layer.blocks.size() + 1);
      layer.blocks.emplace_back(2 * KvView::kBlock * layer.row_bytes);
      layer.pointers.push_back(layer.blocks.back().data());
    }
  }
  reserved_ = std::max(reserved_, end);
}

void KvCache::Write(std::size_t layer_index, std::size_t position, std::span<const float> keys,
                    std::span<const float> values) {
  LayerCache& layer = layers_[layer_index];
  std::byte* block = layer.blocks[position / KvView::kBlock % layer.blocks.size()].data();
  StoreKeysValues(layer.encoding, keys, values, layer.head_dim, layer.k_scale, layer.v_scale, position, block);
}

KvView KvCache::View(std::size_t layer_index) const {
  const LayerCache& layer = layers_[layer_index];
  const bool coded = IsCoded(layer.encoding);
  return {layer.encoding, layer.pointers, layer.row_bytes, coded ? layer.k_scale : 1.0f, coded ? layer.v_scale : 1.0f};
}

bool KvCache::Holds(std::size_t length) const {
  const std::size_t needed = length + 1 > window_ ? length + 1 - window_ : 0;  // the oldest position
  for (const LayerCache& layer : layers_) {
    if (layer.ring == 0 || reserved_ == 0) continue;
    const std::size_t last_block = (reserved_ - 1) / KvView::kBlock;
    const std::size_t oldest_block = last_block + 1 > layer.ring ? last_block + 1 - layer.ring : 0;
    if (needed < oldest_block * KvView::kBlock) return false;
  }
  return true;
}

std::size_t KvCache::bytes() const {
  std::size_t total = 0;
  for (const LayerCache& layer : layers_) {
    for (const Buffer<std::byte>& block : layer.blocks) total += block.size();
  }
  return total;
}

}  // namespace gemmule
