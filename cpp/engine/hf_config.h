// From config.json to what the model runs by: the defaults and rules of transformers' Gemma 4 config classes.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "formats/json.h"
#include "model/config.h"

namespace gemmule {

// How the matrices of a checkpoint may be packed, by its quantization_config.
enum class Packing {
  kNone,
  kMobile,             // quant_method "gemma"
  kCompressedTensors,  // quant_method "compressed-tensors"
};

struct Quantization {
  Packing packing = Packing::kNone;
  std::vector<std::size_t> group_sizes;  // kCompressedTensors: see ReadCompressedTensors
};

struct HfConfig {
  Config config;
  std::string model_type;  // of the whole checkpoint: "gemma4", "gemma4_text", "gemma4_unified", ...
  Quantization quantization;
};

struct HfDrafterConfig {
  Config config;                         // all layers read another model's keys and values (LayerConfig::kOtherModel)
  std::string model_type;                // "gemma4_assistant", "gemma4_unified_assistant"
  std::size_t backbone_hidden_size = 0;  // the target's D
  std::size_t num_centroids = 0;         // 0: a head that gives all tokens a logit
  std::size_t centroid_intermediate_top_k = 0;  // likewise
  Quantization quantization;
};

// `file` names the config in messages. Throws FormatError for a field that is missing, of the wrong type or out of
// range, UnsupportedError for a feature that gemmule does not run.
HfConfig ReadConfig(const JsonValue& root, const std::string& file);
HfDrafterConfig ReadDrafterConfig(const JsonValue& root, const std::string& file);

}  // namespace gemmule
