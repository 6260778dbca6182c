#include "engine/config_rules.h"

#include <optional>
#include <string>
#include <utility>

namespace gemmule {
namespace {

[[noreturn]] void Fail(Where at, const std::string& what, std::string expected, std::string found) {
  at.expected = std::move(expected);
  at.found = std::move(found);
  throw FormatError(what, std::move(at));
}

}  // namespace

void CheckHeads(const Config& config, const Where& at) {
  const LayerConfig* first_of_type[2] = {};
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    const std::string name = "layer " + std::to_string(i);
    if (layer.head_dim % 2 != 0) {
      Fail(at, name + ": rotary positions need pairs", "an even head_dim", std::to_string(layer.head_dim));
    }
    if (config.num_attention_heads % layer.num_key_value_heads != 0) {
      Fail(at, name + ": query heads do not divide among key/value heads",
           "num_attention_heads, " + std::to_string(config.num_attention_heads) + ", a multiple of them",
           std::to_string(layer.num_key_value_heads) + " key/value heads");
    }
    // One set of rotary frequencies, and one cache that later layers share, belong to each type.
    const LayerConfig*& first = first_of_type[layer.type == LayerType::kFull ? 1 : 0];
    if (!first) first = &layer;
    if (layer.head_dim != first->head_dim || layer.num_key_value_heads != first->num_key_value_heads) {
      Fail(at, name + ": its heads differ from those of other layers of its type",
           std::to_string(first->num_key_value_heads) + " key/value heads of " + std::to_string(first->head_dim),
           std::to_string(layer.num_key_value_heads) + " of " + std::to_string(layer.head_dim));
    }
  }
}

void ShareKeysAndValues(Config& config, const Where& at) {
  const std::size_t first_shared = config.FirstSharedLayer();
  std::optional<std::size_t> last_of_type[2];
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    LayerConfig& layer = config.layers[i];
    std::optional<std::size_t>& last = last_of_type[layer.type == LayerType::kFull ? 1 : 0];
    if (i < first_shared) last = i;
    if (!last) {
      Fail(at, "layer " + std::to_string(i) + " shares keys and values that no layer makes",
           "a layer of its type before layer " + std::to_string(first_shared), "none");
    }
    layer.kv_owner = i < first_shared ? i : *last;
  }
}

}  // namespace gemmule
