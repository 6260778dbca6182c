#include "engine/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "engine/config_rules.h"
#include "engine/gguf_architecture.h"
#include "engine/gguf_fields.h"

namespace gemmule {
namespace {

constexpr char kTokens[] = "tokenizer.ggml.tokens";
// Tokens that hold the place of an image, a sound or a video, and tokens that end a text.
constexpr std::string_view kSoftTokens[] = {"<|image|>", "<|audio|>", "<|video|>"};
constexpr std::string_view kEndTokens[] = {"<eos>", "<turn|>", "<|tool_response>", "<end_of_turn>"};

void RefuseJointMatrices(const GgufFiles& checkpoint) {
  for (const TensorView& tensor : checkpoint.weights.tensors) {
    if (tensor.name.find(".attn_qkv.") == std::string::npos) continue;
    throw UnsupportedError("queries, keys and values in one matrix are not run", kAsPublished,
                           {.file = checkpoint.weights.files[tensor.file]->path(),
                            .tensor = tensor.name,
                            .offset = tensor.offset,
                            .expected = "attn_q, attn_k and attn_v",
                            .found = "attn_qkv"});
  }
}

// Elements of a head of full layers (suffix "") or, where they say otherwise, of sliding ones ("_swa"): of keys, of
// values and of rotary positions.
std::size_t ReadHeadDim(const GgufFields& fields, const std::string& suffix) {
  const std::size_t head_dim = fields.Size("attention.key_length" + suffix, 1, kMaxHeadDim);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    const GgufValue* const value = fields.Find(key + suffix);
    if (value && CheckSize(*value, 1, kMaxHeadDim) != head_dim) {
      Refuse(*value, "heads whose keys, values and rotary positions differ in size are not run", kAsPublished,
             std::to_string(head_dim) + ", as attention.key_length" + suffix + " says", std::to_string(value->Int()));
    }
  }
  return head_dim;
}

void ReadLayers(const GgufFields& fields, const GgufArchitecture& architecture, const TensorTable& tensors,
                Config& config) {
  const std::size_t count = fields.Size("block_count", 1, kMaxLayers);
  const std::vector<LayerType> types = architecture.layer_types(fields, count);
  const std::vector<std::size_t> widths = fields.Sizes("feed_forward_length", count, 1, kMaxWidth);
  const std::vector<std::size_t> kv_heads = fields.Sizes("attention.head_count_kv", count, 1, kMaxHeads);
  const std::size_t full = ReadHeadDim(fields, "");
  const std::size_t sliding = fields.Find("attention.key_length_swa") ? ReadHeadDim(fields, "_swa") : full;
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_full = types[i] == LayerType::kFull;
    const std::string v_proj = "layers." + std::to_string(i) + ".self_attn.v_proj.weight";
    config.layers.push_back({.type = types[i],
                             .head_dim = is_full ? full : sliding,
                             .num_key_value_heads = kv_heads[i],
                             .intermediate_size = widths[i],
                             .has_v_proj = !is_full || tensors.Has(v_proj)});
  }
  config.num_kv_shared_layers = fields.SizeOr("attention.shared_kv_layers", 0, 0, static_cast<std::int64_t>(count) - 1);
}

std::size_t ReadHeadCount(const GgufFields& fields, std::size_t layers) {
  const std::vector<std::size_t> counts = fields.Sizes("attention.head_count", layers, 1, kMaxHeads);
  if (std::count(counts.begin(), counts.end(), counts[0]) == static_cast<std::ptrdiff_t>(layers)) return counts[0];
  Refuse(fields.At("attention.head_count"), "layers with different numbers of query heads are not run", kAsPublished,
         std::to_string(counts[0]) + " in every layer", "other numbers");
}

void ReadExperts(const GgufFields& fields, Config& config) {
  config.num_experts = fields.SizeOr("expert_count", 0, 0, kMaxExperts);
  if (!config.HasExperts()) return;
  config.top_k_experts = fields.Size("expert_used_count", 1, static_cast<std::int64_t>(config.num_experts));
  config.moe_intermediate_size = fields.Size("expert_feed_forward_length", 1, kMaxWidth);
}

// Rows of a table; the reader of weights checks its columns.
std::size_t ReadRows(const GgufFiles& checkpoint, const std::string& name) {
  const TensorView* const table = checkpoint.weights.Find(name);
  if (table != nullptr && table->shape.size() == 2 && table->shape[0] <= static_cast<std::uint64_t>(kMaxVocabulary)) {
    return static_cast<std::size_t>(table->shape[0]);
  }
  throw FormatError("no table of embeddings",
                    {.file = checkpoint.path,
                     .tensor = name,
                     .expected = "two dimensions, at most " + std::to_string(kMaxVocabulary) + " rows",
                     .found = table ? ShapeText(table->shape) : "no tensor of this name"});
}

// Ids of the tokens with these texts.
template <std::size_t kCount>
std::vector<std::int64_t> FindTokens(const GgufMetadata& metadata, const std::string_view (&wanted)[kCount]) {
  std::vector<std::int64_t> ids;
  const GgufValue* const tokens = metadata.Find(kTokens);
  if (tokens == nullptr) return ids;
  const std::vector<std::string_view> texts = tokens->Strings();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (std::find(std::begin(wanted), std::end(wanted), texts[i]) != std::end(wanted)) {
      ids.push_back(static_cast<std::int64_t>(i));
    }
  }
  return ids;
}

void ReadVocabulary(const GgufFiles& checkpoint, Config& config) {
  config.vocab_size = ReadRows(checkpoint, "token_embd.weight");
  if (const GgufValue* const tokens = checkpoint.metadata.Find(kTokens)) {
    const std::size_t count = tokens->Strings().size();
    if (count != config.vocab_size) {
      tokens->Fail("the tokens are not as many as the rows of token_embd.weight", std::to_string(config.vocab_size),
                   std::to_string(count));
    }
  }
  config.soft_token_ids = FindTokens(checkpoint.metadata, kSoftTokens);
  if (const GgufValue* const pad = checkpoint.metadata.Find("tokenizer.ggml.padding_token_id")) {
    config.pad_token_id =
        static_cast<std::int64_t>(CheckSize(*pad, 0, static_cast<std::int64_t>(config.vocab_size) - 1));
  }
  if (!config.HasPerLayerInput()) return;
  constexpr char kPerLayer[] = "per_layer_token_embd.weight";
  config.vocab_size_per_layer_input = ReadRows(checkpoint, kPerLayer);
  if (config.vocab_size_per_layer_input < config.vocab_size) {
    throw FormatError("tokens without a per-layer embedding",
                      {.file = checkpoint.path,
                       .tensor = kPerLayer,
                       .expected = std::to_string(config.vocab_size) + " rows at least",
                       .found = std::to_string(config.vocab_size_per_layer_input)});
  }
}

}  // namespace

std::string ReadArchitecture(const GgufMetadata& metadata) {
  return std::string(metadata.At(kArchitectureKey).String());
}

Config ReadGgufConfig(const GgufFiles& checkpoint, GgufTensors& tensors) {
  const GgufArchitecture& architecture = FindArchitecture(checkpoint.metadata);
  const GgufFields fields(checkpoint.metadata, std::string(architecture.name));
  RefuseJointMatrices(checkpoint);

  Config config;
  config.hidden_size = fields.Size("embedding_length", 1, kMaxWidth);
  config.hidden_size_per_layer_input = fields.SizeOr("embedding_length_per_layer_input", 0, 0, kMaxWidth);
  config.max_position_embeddings = fields.Size("context_length", 1, kMaxPositions);
  config.sliding_window = fields.Size("attention.sliding_window", 1, kMaxPositions);
  config.rms_norm_eps = static_cast<float>(CheckPositive(fields.At("attention.layer_norm_rms_epsilon")));
  if (const GgufValue* const cap = fields.Find("final_logit_softcapping"); cap && cap->Number() != 0.0) {
    config.final_logit_softcapping = static_cast<float>(CheckPositive(*cap));
  }
  ReadVocabulary(checkpoint, config);
  ReadLayers(fields, architecture, tensors, config);
  config.num_attention_heads = ReadHeadCount(fields, config.layers.size());
  ReadExperts(fields, config);
  config.tie_word_embeddings = !tensors.Has("lm_head.weight");
  const Where at{.file = checkpoint.path, .tensor = kArchitectureKey};
  CheckHeads(config, at);
  ShareKeysAndValues(config, at);
  // The tensors of a layer that reads another's keys and values may be left out, and say nothing.
  for (LayerConfig& layer : config.layers) layer.has_v_proj = config.layers[layer.kv_owner].has_v_proj;
  architecture.set_ropes(fields, tensors, config);
  config.generation = architecture.generation(config);
  return config;
}

std::vector<std::int64_t> ReadEndTokens(const GgufMetadata& metadata) {
  std::vector<std::int64_t> ids = FindTokens(metadata, kEndTokens);
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (const GgufValue* const id = metadata.Find(key)) {
      ids.push_back(static_cast<std::int64_t>(CheckSize(*id, 0, kMaxVocabulary)));
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace gemmule
