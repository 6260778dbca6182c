#include "engine/gguf_architecture.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>

#include "engine/config_rules.h"
#include "formats/json.h"

namespace gemmule {
namespace {

constexpr char kPattern[] = "attention.sliding_window_pattern";
constexpr char kScaling[] = "rope.scaling.type";

[[noreturn]] void RefuseScaling(const GgufValue& type, std::string expected) {
  Refuse(type, "rotary positions stretched in this way are not run", kAsPublished, std::move(expected),
         Quoted(type.String()));
}

std::vector<LayerType> TypesByFlag(const GgufValue& pattern, std::size_t layers) {
  GgufFields::CheckLength(pattern, layers);
  std::vector<LayerType> types;
  for (std::size_t i = 0; i < layers; ++i) {
    types.push_back(pattern.Child(i).Bool() ? LayerType::kSliding : LayerType::kFull);
  }
  return types;
}

// Gemma 4: a flag for each layer, always; of the full layers' angles only some turn.

std::vector<LayerType> Gemma4LayerTypes(const GgufFields& fields, std::size_t layers) {
  return TypesByFlag(fields.At(kPattern), layers);
}

// The share of `half` angles that gives back `turning` when it is multiplied by `half`.
double Share(std::size_t turning, std::size_t half) {
  const double share = static_cast<double>(turning) / static_cast<double>(half);
  return share * static_cast<double>(half) < static_cast<double>(turning) ? std::nextafter(share, 1.0) : share;
}

void SetGemma4Ropes(const GgufFields& fields, GgufTensors& tensors, Config& config) {
  if (const GgufValue* const type = fields.Find(kScaling); type && type->String() != "none") {
    RefuseScaling(*type, "\"none\"");
  }
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

Generation Gemma4(const Config&) { return {}; }

// Gemma 3: what files leave out is what llama.cpp takes it to be. Source: ggml-org/llama.cpp, src/models/gemma3.cpp.

std::vector<LayerType> Gemma3LayerTypes(const GgufFields& fields, std::size_t layers) {
  const GgufValue* const pattern = fields.Find(kPattern);
  if (pattern && pattern->IsArray()) return TypesByFlag(*pattern, layers);
  const std::size_t period = pattern ? CheckSize(*pattern, 1, kMaxLayers) : 6;
  std::vector<LayerType> types;
  for (std::size_t i = 0; i < layers; ++i) {
    types.push_back((i + 1) % period == 0 ? LayerType::kFull : LayerType::kSliding);
  }
  return types;
}

void SetGemma3Ropes(const GgufFields& fields, GgufTensors&, Config& config) {
  config.rope_sliding.rope_theta = fields.PositiveOr("rope.freq_base_swa", 1e4);
  config.rope_full.rope_theta = CheckPositive(fields.At("rope.freq_base"));
  const GgufValue* const type = fields.Find(kScaling);
  if (type == nullptr || type->String() == "none") return;
  if (type->String() != "linear") RefuseScaling(*type, "\"none\" or \"linear\"");
  config.rope_full.factor = CheckPositive(fields.At("rope.scaling.factor"));
}

// query_pre_attn_scalar of the published configs: the head size, but for 27B, which has 62 layers, D / H.
Generation Gemma3(const Config& config) {
  const bool is_27b = config.layers.size() == 62;
  const double head_dim = static_cast<double>(config.layers[0].head_dim);
  const double share = static_cast<double>(config.hidden_size) / static_cast<double>(config.num_attention_heads);
  return {.norms_values = false, .has_layer_scalar = false, .query_scale = 1.0 / std::sqrt(is_27b ? share : head_dim)};
}

constexpr GgufArchitecture kArchitectures[] = {
    {"gemma4", Gemma4LayerTypes, SetGemma4Ropes, Gemma4},
    {"gemma3", Gemma3LayerTypes, SetGemma3Ropes, Gemma3},
};

}  // namespace

const GgufArchitecture& FindArchitecture(const GgufMetadata& metadata) {
  const GgufValue& value = metadata.At(kArchitectureKey);
  const std::string_view name = value.String();
  const auto known = std::find_if(std::begin(kArchitectures), std::end(kArchitectures),
                                  [&](const GgufArchitecture& architecture) { return architecture.name == name; });
  if (known != std::end(kArchitectures)) return *known;
  const std::string remedy = name == "clip" ? "This is a projector of images. Load the model's own file."
                             : name == "gemma4-assistant"
                                 ? "This is a drafter. Load the model's own file."
                                 : "gemmule runs Gemma 4 and Gemma 3 alone; llama.cpp runs this file.";
  Refuse(value, "this architecture is not supported", remedy, "\"gemma4\" or \"gemma3\"", Quoted(name));
}

}  // namespace gemmule
