// What a checkpoint's config says of the text decoder, in the words of its config.json.
//
// Letters for dimensions, used in every comment of this folder:
//   T tokens   D hidden_size   F width of one layer's MLP   H query heads   G key/value heads   E head size
//   P hidden_size_per_layer_input   V vocab_size   L num_hidden_layers   W sliding_window
//   X num_experts   M moe_intermediate_size
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gemmule {

enum class LayerType { kSliding, kFull };

struct RopeParameters {
  double rope_theta = 0.0;
  // Share of the head's angles that turn; the others stay at 0. Frequencies are spaced over the whole head.
  double partial_rotary_factor = 1.0;
  double factor = 1.0;  // divides every frequency

  bool operator==(const RopeParameters&) const = default;
};

struct LayerConfig {
  LayerType type = LayerType::kSliding;
  std::size_t head_dim = 0;             // E
  std::size_t num_key_value_heads = 0;  // G
  std::size_t intermediate_size = 0;    // F
  bool has_v_proj = true;               // false: V comes from k_proj (attention_k_eq_v)
  // The layer whose keys and values this one reads: itself, or the last layer of its type before the shared ones.
  std::size_t kv_owner = 0;
  static constexpr std::size_t kOtherModel = static_cast<std::size_t>(-1);  // those of a drafter: its target's layer
};

// What an older generation of the model does otherwise. As it stands here: Gemma 4.
struct Generation {
  bool norms_values = true;      // a value is divided by its root mean square
  bool has_layer_scalar = true;  // a layer's output is multiplied by one
  double query_scale = 1.0;      // of the scores; 1: q_norm carries it
};

struct Config {
  std::size_t vocab_size = 0;                   // V
  std::size_t vocab_size_per_layer_input = 0;   // rows of the per-layer embedding
  std::size_t hidden_size = 0;                  // D
  std::size_t hidden_size_per_layer_input = 0;  // P; 0: no per-layer embeddings
  std::size_t num_attention_heads = 0;          // H
  std::size_t num_experts = 0;                  // X; 0: no expert layers
  std::size_t top_k_experts = 0;                // experts that see a token
  std::size_t moe_intermediate_size = 0;        // M
  std::size_t sliding_window = 0;               // W: keys seen, the current one included
  std::size_t max_position_embeddings = 0;
  float rms_norm_eps = 0.0f;
  float final_logit_softcapping = 0.0f;  // 0: none
  bool tie_word_embeddings = true;
  RopeParameters rope_sliding;
  RopeParameters rope_full;
  std::vector<LayerConfig> layers;  // L
  Generation generation;
  std::size_t num_kv_shared_layers = 0;
  // Ids that hold the place of an image, a video or a sound. In text they are embedded as pad_token_id.
  std::vector<std::int64_t> soft_token_ids;
  std::int64_t pad_token_id = 0;

  // The row of both embeddings that stands for token `id`.
  std::size_t EmbeddingRow(std::int32_t id) const {
    const bool soft = std::find(soft_token_ids.begin(), soft_token_ids.end(), id) != soft_token_ids.end();
    return static_cast<std::size_t>(soft ? pad_token_id : id);
  }
  const RopeParameters& Rope(LayerType type) const { return type == LayerType::kFull ? rope_full : rope_sliding; }
  // Layers from here on compute no keys and values of their own.
  std::size_t FirstSharedLayer() const { return layers.size() - num_kv_shared_layers; }
  bool HasExperts() const { return num_experts != 0; }
  bool HasPerLayerInput() const { return hidden_size_per_layer_input != 0; }
};

}  // namespace gemmule
