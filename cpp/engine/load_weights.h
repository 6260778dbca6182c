// From a checkpoint's tensors to weights, and what must hold for them to run: the same for a model and for a drafter.
#pragma once

#include <string>

#include "engine/load.h"
#include "engine/tensor_table.h"
#include "model/config.h"
#include "model/model.h"
#include "model/weights.h"

namespace gemmule {

// All that `config` asks for. Throws FormatError where a tensor is missing or does not fit, UnsupportedError.
Weights LoadWeights(TensorTable& tensors, const Config& config, const LoadOptions& options);

// Throws UnsupportedError for what the kernels cannot hold; `file` has the config.
void CheckLimits(const Config& config, const std::string& file);

// `name`: LoadOptions::activations. Throws ArgumentError.
Products ChooseProducts(const std::string& name, const Weights& weights);

}  // namespace gemmule
