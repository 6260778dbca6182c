// Where the GGUF files of Gemma 4 and those of Gemma 3 say things in different ways, or mean different things. All else
// of gguf_config.cc and gguf_tensors.cc holds for both. The norms are alike: Gemma 3's own checkpoints leave out a 1
// that is added to each weight, and llama.cpp's converter has put it in.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "engine/gguf_fields.h"
#include "engine/gguf_tensors.h"
#include "formats/gguf.h"
#include "model/config.h"

namespace gemmule {

inline constexpr char kArchitectureKey[] = "general.architecture";

struct GgufArchitecture {
  std::string_view name;  // general.architecture
  std::vector<LayerType> (*layer_types)(const GgufFields& fields, std::size_t layers);
  // Sets rope_full and rope_sliding by the fields, the tensors, and the layers and heads that `config` has by now.
  void (*set_ropes)(const GgufFields& fields, GgufTensors& tensors, Config& config);
  Generation (*generation)(const Config& config);
};

// Throws UnsupportedError for an architecture that gemmule does not run.
const GgufArchitecture& FindArchitecture(const GgufMetadata& metadata);

}  // namespace gemmule
