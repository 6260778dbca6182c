#include "engine/hf_config.h"

#include <charconv>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/compressed_tensors.h"
#include "engine/config_rules.h"

namespace gemmule {
namespace {

constexpr char kSliding[] = "sliding_attention";
constexpr char kFull[] = "full_attention";
constexpr char kSizesToday[] = "gemmule runs the E2B, E4B, 12B, 26B-A4B and 31B sizes of Gemma 4.";

// What differs between the config classes of the two families.
struct Family {
  std::string_view model_type;       // of a checkpoint with towers; its text model is in text_config
  std::string_view text_model_type;  // of the text model, or of a checkpoint that is only that
  std::string_view drafter_type;     // of a drafter; its own text model is in text_config
  std::int64_t sliding_window;
  std::int64_t max_position_embeddings;
  bool has_per_layer_input_and_experts;  // false: keys for them mean nothing and are ignored
};

constexpr Family kFamilies[] = {
    {"gemma4", "gemma4_text", "gemma4_assistant", 512, 131'072, true},
    {"gemma4_unified", "gemma4_unified_text", "gemma4_unified_assistant", 1024, 262'144, false},
};

std::size_t CheckSize(const JsonCursor& number, std::int64_t min, std::int64_t max) {
  const std::int64_t value = number.Int();
  if (value < min || value > max) {
    number.Fail("a size is out of range", std::to_string(min) + " to " + std::to_string(max));
  }
  return static_cast<std::size_t>(value);
}

// `absent` is what the config class takes where the key is missing.
std::size_t Size(const JsonCursor& fields, std::string_view key, std::int64_t absent, std::int64_t min,
                 std::int64_t max) {
  const auto number = fields.Find(key);
  return number ? CheckSize(*number, min, max) : static_cast<std::size_t>(absent);
}

bool Flag(const JsonCursor& fields, std::string_view key, bool absent) {
  const auto flag = fields.Find(key);
  return flag ? flag->Bool() : absent;
}

double CheckPositive(const JsonCursor& number) {
  const double value = number.Number();
  // The model computes in float32: what is zero or infinite there is of no use either.
  if (!(value >= std::numeric_limits<float>::min() && value <= std::numeric_limits<float>::max())) {
    number.Fail("a number is out of range", "a positive number that a float32 holds");
  }
  return value;
}

const Family& FindFamily(const JsonCursor& model_type) {
  const std::string& name = model_type.String();
  for (const Family& family : kFamilies) {
    if (name == family.model_type || name == family.text_model_type) return family;
    if (name == family.drafter_type) {
      model_type.Refuse("this is a drafter, no model of its own",
                        "Load the model that it was made for, with mtp= this.", Quoted(family.model_type));
    }
  }
  model_type.Refuse("this model type is not supported", kSizesToday,
                    "\"gemma4\", \"gemma4_text\", \"gemma4_unified\" or \"gemma4_unified_text\"");
}

const Family& FindDrafterFamily(const JsonCursor& model_type) {
  for (const Family& family : kFamilies) {
    if (model_type.String() == family.drafter_type) return family;
  }
  model_type.Refuse("this is no drafter", "Use the model's own, whose name ends in -assistant.",
                    "\"gemma4_assistant\" or \"gemma4_unified_assistant\"");
}

void RefuseUnsupportedFeatures(const JsonCursor& text) {
  if (Flag(text, "attention_bias", false)) {
    text.At("attention_bias")
        .Refuse("biases in attention are not run", "Use a checkpoint without them; no published Gemma 4 has any.",
                "false");
  }
  if (const auto name = text.Find("hidden_activation"); name && name->String() != "gelu_pytorch_tanh") {
    name->Refuse("this activation function is not run", "Use a checkpoint with Gemma 4's own activation.",
                 "\"gelu_pytorch_tanh\"");
  }
  // "vision" concerns image tokens alone: text is causal with it too.
  if (const auto name = text.FindNonNull("use_bidirectional_attention"); name && name->String() != "vision") {
    if (name->String() != "all") name->Fail("an unknown kind of attention", "null, \"vision\" or \"all\"");
    name->Refuse("attention in both directions is not run",
                 "Use a checkpoint that generates text; this one makes embeddings.", "null or \"vision\"");
  }
}

Quantization ReadQuantization(const JsonCursor& root, const JsonCursor& text) {
  auto quantization = root.FindNonNull("quantization_config");
  if (!quantization) quantization = text.FindNonNull("quantization_config");
  if (!quantization) return {};
  const JsonCursor method = quantization->At("quant_method");
  if (method.String() == "gemma") return {.packing = Packing::kMobile, .group_sizes = {}};
  if (method.String() == "compressed-tensors") {
    return {.packing = Packing::kCompressedTensors, .group_sizes = ReadCompressedTensors(*quantization)};
  }
  method.Refuse("this quantization is not supported",
                "Use Google's own forms of this model: mobile (its name ends in -qat-mobile-transformers), "
                "compressed-tensors (-qat-w4a16-ct), GGUF (-qat-q4_0-gguf) or bfloat16.",
                "\"gemma\" or \"compressed-tensors\"");
}

std::vector<LayerType> ReadLayerTypes(const JsonCursor& text, std::size_t count) {
  std::vector<LayerType> types;
  if (const auto names = text.FindNonNull("layer_types")) {
    if (names->Array().size() != count) {
      names->Fail("wrong number of layer types", std::to_string(count) + ", as num_hidden_layers says",
                  std::to_string(names->Array().size()));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const JsonCursor name = names->Child(i);
      const bool full = name.String() == kFull;
      if (!full && name.String() != kSliding) {
        name.Fail("an unknown layer type", Quoted(kSliding) + " or " + Quoted(kFull));
      }
      types.push_back(full ? LayerType::kFull : LayerType::kSliding);
    }
  } else {
    for (std::size_t i = 0; i < count; ++i) types.push_back(i % 6 == 5 ? LayerType::kFull : LayerType::kSliding);
  }
  types.back() = LayerType::kFull;  // the config class forces it, whatever the file says
  return types;
}

// The layer that a key of per_layer_config names: its number, zeros before it allowed ("07").
std::size_t LayerNumber(const JsonCursor& layers, const std::string& key, std::size_t count) {
  std::size_t number = 0;
  const auto result = std::from_chars(key.data(), key.data() + key.size(), number);
  if (result.ec != std::errc() || result.ptr != key.data() + key.size() || number >= count) {
    layers.Fail("a key is no layer's number", "0 to " + std::to_string(count - 1), Quoted(key));
  }
  return number;
}

// Newer configs list the layers that differ; older ones have global_... keys for all full layers.
void ReadHeads(const JsonCursor& text, std::vector<LayerConfig>& layers) {
  const std::size_t head_dim = Size(text, "head_dim", 256, 1, kMaxHeadDim);
  const std::size_t num_key_value_heads = Size(text, "num_key_value_heads", 4, 1, kMaxHeads);
  for (LayerConfig& layer : layers) {
    layer.head_dim = head_dim;
    layer.num_key_value_heads = num_key_value_heads;
  }

  if (const auto overrides = text.Find("per_layer_config")) {  // even null: then no layer differs
    if (overrides->IsNull()) return;
    std::vector<bool> seen(layers.size());
    for (const JsonMember& member : overrides->Object()) {
      const std::size_t number = LayerNumber(*overrides, member.key, layers.size());
      if (seen[number]) overrides->Fail("a layer stands twice", "each layer once", Quoted(member.key));
      seen[number] = true;
      const JsonCursor fields = overrides->Child(member);
      for (const JsonMember& field : fields.Object()) {
        const JsonCursor value = fields.Child(field);
        if (field.key == "head_dim") {
          layers[number].head_dim = CheckSize(value, 1, kMaxHeadDim);
        } else if (field.key == "num_key_value_heads") {
          layers[number].num_key_value_heads = CheckSize(value, 1, kMaxHeads);
        } else {
          value.Refuse("this field cannot differ between layers", kSizesToday, "head_dim or num_key_value_heads",
                       Quoted(field.key));
        }
      }
    }
    return;
  }

  const std::size_t global_head_dim = Size(text, "global_head_dim", 512, 1, kMaxHeadDim);
  // Without attention_k_eq_v the key is ignored.
  const auto global_heads =
      Flag(text, "attention_k_eq_v", false) ? text.FindNonNull("num_global_key_value_heads") : std::nullopt;
  for (LayerConfig& layer : layers) {
    if (layer.type != LayerType::kFull) continue;
    layer.head_dim = global_head_dim;
    if (global_heads) layer.num_key_value_heads = CheckSize(*global_heads, 1, kMaxHeads);
  }
}

RopeParameters ReadRope(const JsonCursor& rope) {
  RopeParameters parameters;
  parameters.rope_theta = CheckPositive(rope.At("rope_theta"));
  auto type = rope.Find("rope_type");
  if (!type) type = rope.Find("type");  // the key's older name
  const std::string name = type ? type->String() : "default";
  if (name == "default") return parameters;  // the other keys mean nothing to this type
  if (type && name != "proportional") {
    type->Refuse("this kind of rotary positions is not run",
                 "Use a checkpoint as published, without context stretching.", "\"default\" or \"proportional\"");
  }
  if (const auto share = rope.Find("partial_rotary_factor")) {
    parameters.partial_rotary_factor = share->Number();
    if (!(parameters.partial_rotary_factor > 0.0 && parameters.partial_rotary_factor <= 1.0)) {
      share->Fail("a share is out of range", "more than 0, at most 1");
    }
  }
  if (const auto factor = rope.Find("factor")) parameters.factor = CheckPositive(*factor);
  return parameters;
}

void ReadRopes(const JsonCursor& text, Config& config) {
  config.rope_sliding = {.rope_theta = 1e4, .partial_rotary_factor = 1.0, .factor = 1.0};
  config.rope_full = {.rope_theta = 1e6, .partial_rotary_factor = 0.25, .factor = 1.0};
  const auto ropes = text.FindNonNull("rope_parameters");
  if (!ropes) return;
  config.rope_full = ReadRope(ropes->At(kFull));  // the last layer is full
  for (const LayerConfig& layer : config.layers) {
    if (layer.type != LayerType::kSliding) continue;
    config.rope_sliding = ReadRope(ropes->At(kSliding));
    break;
  }
}

Where Whole(const JsonCursor& fields) {
  return {.file = fields.file(), .tensor = fields.path(), .offset = fields.value().offset};
}

// Their keys and values are left to the caller; `own` layers at least make some.
void ReadLayers(const JsonCursor& text, std::int64_t own, Config& config) {
  const std::size_t count = Size(text, "num_hidden_layers", 30, 1, kMaxLayers);
  config.num_kv_shared_layers = Size(text, "num_kv_shared_layers", 0, 0, static_cast<std::int64_t>(count) - own);
  const std::size_t first_shared = count - config.num_kv_shared_layers;
  const std::size_t intermediate_size = Size(text, "intermediate_size", 9216, 1, kMaxWidth);
  const bool double_wide = Flag(text, "use_double_wide_mlp", false);
  const bool k_eq_v = Flag(text, "attention_k_eq_v", false);

  for (const LayerType type : ReadLayerTypes(text, count)) {
    LayerConfig layer;
    layer.type = type;
    layer.intermediate_size = intermediate_size * (double_wide && config.layers.size() >= first_shared ? 2 : 1);
    layer.has_v_proj = !(k_eq_v && type == LayerType::kFull);
    config.layers.push_back(layer);
  }
  ReadHeads(text, config.layers);
  CheckHeads(config, Whole(text));
}

void ReadPerLayerInput(const JsonCursor& text, Config& config) {
  config.hidden_size_per_layer_input = Size(text, "hidden_size_per_layer_input", 256, 0, kMaxWidth);
  if (!config.HasPerLayerInput()) return;
  config.vocab_size_per_layer_input = Size(text, "vocab_size_per_layer_input", 262'144, 1, kMaxVocabulary);
  if (config.vocab_size_per_layer_input < config.vocab_size) {
    text.Fail("tokens without a per-layer embedding",
              "vocab_size_per_layer_input of at least " + std::to_string(config.vocab_size),
              std::to_string(config.vocab_size_per_layer_input));
  }
}

// All three sizes are null in a config without expert layers, and have no default in one with them.
void ReadExperts(const JsonCursor& text, Config& config) {
  if (!Flag(text, "enable_moe_block", false)) return;
  config.num_experts = CheckSize(text.At("num_experts"), 1, kMaxExperts);
  config.top_k_experts = CheckSize(text.At("top_k_experts"), 1, static_cast<std::int64_t>(config.num_experts));
  const auto older = text.FindNonNull("expert_intermediate_size");  // an older name
  config.moe_intermediate_size = CheckSize(older ? *older : text.At("moe_intermediate_size"), 1, kMaxWidth);
}

// What models and drafters have alike.
Config ReadDecoder(const JsonCursor& text, const Family& family, std::int64_t own_layers) {
  Config config;
  config.vocab_size = Size(text, "vocab_size", 262'144, 1, kMaxVocabulary);
  config.hidden_size = Size(text, "hidden_size", 2304, 1, kMaxWidth);
  config.num_attention_heads = Size(text, "num_attention_heads", 8, 1, kMaxHeads);
  config.sliding_window = Size(text, "sliding_window", family.sliding_window, 1, kMaxPositions);
  config.max_position_embeddings =
      Size(text, "max_position_embeddings", family.max_position_embeddings, 1, kMaxPositions);
  const auto eps = text.Find("rms_norm_eps");
  config.rms_norm_eps = static_cast<float>(eps ? CheckPositive(*eps) : 1e-6);
  if (const auto cap = text.FindNonNull("final_logit_softcapping")) {
    config.final_logit_softcapping = static_cast<float>(CheckPositive(*cap));
  }
  ReadLayers(text, own_layers, config);
  ReadRopes(text, config);
  return config;
}

Config ReadText(const JsonCursor& text, const Family& family) {
  Config config = ReadDecoder(text, family, 1);
  ShareKeysAndValues(config, Whole(text));
  if (family.has_per_layer_input_and_experts) {
    ReadPerLayerInput(text, config);
    ReadExperts(text, config);
  }
  return config;
}

Config ReadDrafterText(const JsonCursor& text, const Family& family) {
  Config config = ReadDecoder(text, family, 0);
  for (LayerConfig& layer : config.layers) layer.kv_owner = LayerConfig::kOtherModel;
  constexpr char kRemedy[] = "Use a drafter as published: none has any.";
  if (Size(text, "hidden_size_per_layer_input", 0, 0, kMaxWidth) != 0) {
    text.At("hidden_size_per_layer_input").Refuse("drafters with per-layer inputs are not run", kRemedy, "0");
  }
  if (Flag(text, "enable_moe_block", false)) {
    text.At("enable_moe_block").Refuse("drafters with experts are not run", kRemedy, "false");
  }
  return config;
}

// Of a head that looks at clusters of tokens.
void ReadClusters(const JsonCursor& root, HfDrafterConfig& drafter) {
  if (!Flag(root, "use_ordered_embeddings", false)) return;
  drafter.num_centroids = Size(root, "num_centroids", 2048, 1, static_cast<std::int64_t>(drafter.config.vocab_size));
  drafter.centroid_intermediate_top_k =
      Size(root, "centroid_intermediate_top_k", 32, 1, static_cast<std::int64_t>(drafter.num_centroids));
  if (drafter.config.vocab_size % drafter.num_centroids != 0) {
    root.At("num_centroids")
        .Fail("tokens do not divide among clusters",
              "a divisor of vocab_size, " + std::to_string(drafter.config.vocab_size));
  }
}

// The checkpoint's own flag counts before its text model's.
bool ReadTie(const JsonCursor& root, const JsonCursor& text) {
  return Flag(root, "tie_word_embeddings", Flag(text, "tie_word_embeddings", true));
}

// Of a checkpoint with towers: the ids at which their outputs stand.
void ReadSoftTokens(const JsonCursor& root, const JsonCursor& text, Config& config) {
  constexpr std::pair<std::string_view, std::int64_t> kKeys[] = {
      {"image_token_id", 258'880}, {"audio_token_id", 258'881}, {"video_token_id", 258'884}};
  for (const auto& [key, absent] : kKeys) {
    const auto id = root.Find(key);
    if (!id || !id->IsNull()) config.soft_token_ids.push_back(id ? id->Int() : absent);
  }
  if (const auto pad = text.FindNonNull("pad_token_id")) {
    config.pad_token_id =
        static_cast<std::int64_t>(CheckSize(*pad, 0, static_cast<std::int64_t>(config.vocab_size) - 1));
  }
}

}  // namespace

HfConfig ReadConfig(const JsonValue& value, const std::string& file) {
  const JsonCursor root(value, file);
  const JsonCursor model_type = root.At("model_type");
  const Family& family = FindFamily(model_type);
  const bool nested = model_type.String() == family.model_type;
  const JsonCursor text = nested ? root.At("text_config") : root;
  if (const auto name = text.Find("model_type"); name && name->String() != family.text_model_type) {
    name->Fail("the text model does not belong to this checkpoint", Quoted(family.text_model_type));
  }
  RefuseUnsupportedFeatures(text);

  HfConfig result;
  result.model_type = model_type.String();
  result.quantization = ReadQuantization(root, text);
  result.config = ReadText(text, family);
  result.config.tie_word_embeddings = ReadTie(root, text);
  if (nested) ReadSoftTokens(root, text, result.config);
  return result;
}

HfDrafterConfig ReadDrafterConfig(const JsonValue& value, const std::string& file) {
  const JsonCursor root(value, file);
  const JsonCursor model_type = root.At("model_type");
  const Family& family = FindDrafterFamily(model_type);
  const JsonCursor text = root.At("text_config");
  RefuseUnsupportedFeatures(text);

  HfDrafterConfig result;
  result.model_type = model_type.String();
  result.quantization = ReadQuantization(root, text);
  result.config = ReadDrafterText(text, family);
  result.config.tie_word_embeddings = ReadTie(root, text);
  result.backbone_hidden_size = CheckSize(root.At("backbone_hidden_size"), 1, kMaxWidth);
  ReadClusters(root, result);
  return result;
}

}  // namespace gemmule
