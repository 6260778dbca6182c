#include "engine/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "engine/config_rules.h"
#include "formats/json.h"

namespace gemmule {
namespace {

constexpr char kArchitecture[] = "general.architecture";
constexpr char kTokens[] = "tokenizer.ggml.tokens";
// Tokens that hold the place of an image, a sound or a video, and tokens that end a text.
constexpr std::string_view kSoftTokens[] = {"<|image|>", "<|audio|>", "<|video|>"};
constexpr std::string_view kEndTokens[] = {"<eos>", "<turn|>", "<|tool_response>"};
constexpr char kAsPublished[] = "Use a file that llama.cpp's converter made of a published Gemma 4.";

[[noreturn]] void Refuse(const GgufValue& value, const std::string& what, const std::string& remedy,
                         std::string expected, std::string found) {
  throw UnsupportedError(what, remedy,
                         {.file = value.file(),
                          .tensor = value.key(),
                          .offset = value.offset(),
                          .expected = std::move(expected),
                          .found = std::move(found)});
}

std::size_t CheckSize(const GgufValue& value, std::int64_t min, std::int64_t max) {
  const std::int64_t number = value.Int();
  if (number < min || number > max) {
    value.Fail("a size is out of range", std::to_string(min) + " to " + std::to_string(max));
  }
  return static_cast<std::size_t>(number);
}

double CheckPositive(const GgufValue& value) {
  const double number = value.Number();
  // The model computes in float32: what is zero or infinite there is of no use either.
  if (!(number >= std::numeric_limits<float>::min() && number <= std::numeric_limits<float>::max())) {
    value.Fail("a number is out of range", "a positive number that a float32 holds");
  }
  return number;
}

// The keys that begin with the architecture's name.
class Fields {
 public:
  Fields(const GgufMetadata& metadata, std::string architecture)
      : metadata_(metadata), prefix_(std::move(architecture) + ".") {}

  const GgufValue* Find(const std::string& key) const { return metadata_.Find(prefix_ + key); }
  const GgufValue& At(const std::string& key) const { return metadata_.At(prefix_ + key); }

  std::size_t Size(const std::string& key, std::int64_t min, std::int64_t max) const {
    return CheckSize(At(key), min, max);
  }
  std::size_t SizeOr(const std::string& key, std::size_t absent, std::int64_t min, std::int64_t max) const {
    const GgufValue* const value = Find(key);
    return value ? CheckSize(*value, min, max) : absent;
  }

  // One value for each of `count` layers: an array of them, or one for all.
  std::vector<std::size_t> Sizes(const std::string& key, std::size_t count, std::int64_t min, std::int64_t max) const {
    const GgufValue& value = At(key);
    if (!value.IsArray()) return std::vector<std::size_t>(count, CheckSize(value, min, max));
    CheckLength(value, count);
    std::vector<std::size_t> sizes;
    for (std::size_t i = 0; i < count; ++i) sizes.push_back(CheckSize(value.Child(i), min, max));
    return sizes;
  }

  static void CheckLength(const GgufValue& array, std::size_t count) {
    if (!array.IsArray() || array.size() != count) {
      array.Fail("wrong number of layers", "an array of " + std::to_string(count) + ", as block_count says",
                 array.TypeName());
    }
  }

 private:
  const GgufMetadata& metadata_;
  std::string prefix_;
};

void CheckArchitecture(const GgufMetadata& metadata) {
  const std::string name = ReadArchitecture(metadata);
  if (name == "gemma4") return;
  const std::string remedy = name == "clip"               ? "This is a projector of images. Load the model's own file."
                             : name == "gemma4-assistant" ? "This is a drafter. Load the model's own file."
                                                          : "gemmule runs the text models of Gemma 4.";
  Refuse(metadata.At(kArchitecture), "this architecture is not supported", remedy, "\"gemma4\"", Quoted(name));
}

void RefuseUnsupportedFeatures(const Fields& fields, const GgufFiles& checkpoint) {
  if (const GgufValue* const type = fields.Find("rope.scaling.type"); type && type->String() != "none") {
    Refuse(*type, "stretched rotary positions are not run", kAsPublished, "\"none\"", Quoted(type->String()));
  }
  for (const TensorView& tensor : checkpoint.weights.tensors) {
    if (tensor.name.find(".attn_qkv.") == std::string::npos) continue;
    throw UnsupportedError("queries, keys and values in one matrix are not run", kAsPublished,
                           {.file = checkpoint.weights.files[tensor.file]->path(),
                            .tensor = tensor.name,
                            .offset = tensor.offset,
                            .expected = "attn_q, attn_k and attn_v"});
  }
}

std::vector<LayerType> ReadLayerTypes(const Fields& fields, std::size_t count) {
  const GgufValue& pattern = fields.At("attention.sliding_window_pattern");
  Fields::CheckLength(pattern, count);
  std::vector<LayerType> types;
  for (std::size_t i = 0; i < count; ++i) {
    types.push_back(pattern.Child(i).Bool() ? LayerType::kSliding : LayerType::kFull);
  }
  return types;
}

// Elements of a head of full layers (suffix "") or sliding ones ("_swa"): of keys, of values and of rotary positions.
std::size_t ReadHeadDim(const Fields& fields, const std::string& suffix) {
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

void ReadLayers(const Fields& fields, const TensorTable& tensors, Config& config) {
  const std::size_t count = fields.Size("block_count", 1, kMaxLayers);
  const std::vector<LayerType> types = ReadLayerTypes(fields, count);
  const std::vector<std::size_t> widths = fields.Sizes("feed_forward_length", count, 1, kMaxWidth);
  const std::vector<std::size_t> kv_heads = fields.Sizes("attention.head_count_kv", count, 1, kMaxHeads);
  const std::size_t full = ReadHeadDim(fields, "");
  const bool has_sliding = std::count(types.begin(), types.end(), LayerType::kSliding) != 0;
  const std::size_t sliding = has_sliding ? ReadHeadDim(fields, "_swa") : full;
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

std::size_t ReadHeadCount(const Fields& fields, std::size_t layers) {
  const std::vector<std::size_t> counts = fields.Sizes("attention.head_count", layers, 1, kMaxHeads);
  if (std::count(counts.begin(), counts.end(), counts[0]) == static_cast<std::ptrdiff_t>(layers)) return counts[0];
  Refuse(fields.At("attention.head_count"), "layers with different numbers of query heads are not run", kAsPublished,
         std::to_string(counts[0]) + " in every layer", "other numbers");
}

void ReadExperts(const Fields& fields, Config& config) {
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

// The share of `half` angles that gives back `turning` when it is multiplied by `half`.
double Share(std::size_t turning, std::size_t half) {
  const double share = static_cast<double>(turning) / static_cast<double>(half);
  return share * static_cast<double>(half) < static_cast<double>(turning) ? std::nextafter(share, 1.0) : share;
}

void ReadRopes(const Fields& fields, GgufTensors& tensors, Config& config) {
  const auto first = [&](LayerType type) {
    return std::find_if(config.layers.begin(), config.layers.end(),
                        [&](const LayerConfig& layer) { return layer.type == type; });
  };
  if (const auto full = first(LayerType::kFull); full != config.layers.end()) {
    const std::size_t half = full->head_dim / 2;
    config.rope_full.rope_theta = CheckPositive(fields.At("rope.freq_base"));
    config.rope_full.partial_rotary_factor = Share(tensors.TurningAngles(half), half);
  }
  if (first(LayerType::kSliding) != config.layers.end()) {
    config.rope_sliding.rope_theta = CheckPositive(fields.At("rope.freq_base_swa"));
  }
}

}  // namespace

std::string ReadArchitecture(const GgufMetadata& metadata) { return std::string(metadata.At(kArchitecture).String()); }

Config ReadGgufConfig(const GgufFiles& checkpoint, GgufTensors& tensors) {
  CheckArchitecture(checkpoint.metadata);
  const Fields fields(checkpoint.metadata, ReadArchitecture(checkpoint.metadata));
  RefuseUnsupportedFeatures(fields, checkpoint);

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
  ReadLayers(fields, tensors, config);
  config.num_attention_heads = ReadHeadCount(fields, config.layers.size());
  ReadExperts(fields, config);
  config.tie_word_embeddings = !tensors.Has("lm_head.weight");
  const Where at{.file = checkpoint.path, .tensor = kArchitecture};
  CheckHeads(config, at);
  ShareKeysAndValues(config, at);
  ReadRopes(fields, tensors, config);
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
