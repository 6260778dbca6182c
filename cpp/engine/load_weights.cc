#include "engine/load_weights.h"

#include "base/error.h"
#include "kernels/kv_block.h"
#include "model/tensors.h"

namespace gemmule {
namespace {

// Fills the weights from a table of tensors: see model/tensors.h for the calls.
struct WeightFiller {
  TensorTable& tensors;
  const LoadOptions& options;

  bool WantsUnused(const std::string& name) const { return options.unused_too && tensors.Has(name + ".weight"); }
  void Vector(const std::string& name, std::vector<float>& to, std::size_t n) { to = tensors.Vector(name, n); }
  void Scalar(const std::string& name, float& to) { to = tensors.Scalar(name); }
  void CacheScale(const std::string& name, float& to) { to = tensors.CacheScale(name); }
  void Matrix(const std::string& name, Linear& to, std::size_t rows, std::size_t cols) {
    to = tensors.Matrix(name, rows, cols);
    if (!options.activation_scales) to.input_scale = to.output_scale = 0.0f;
  }
  void TiedHead(const std::string& table, Linear& to, std::size_t rows, std::size_t cols) {
    to = tensors.TiedHead(table, rows, cols);
  }
  void Table(const std::string& name, Embedding& to, std::size_t rows, std::size_t cols, float multiplier) {
    to = tensors.Table(name, rows, cols, multiplier);
  }
  void Experts(const std::string& name, ExpertMatrices& to, std::size_t experts, std::size_t rows, std::size_t cols) {
    to = tensors.Stack(name, experts, 0, rows, rows, cols);
  }
  void ExpertPairs(const std::string& name, ExpertMatrices& first, ExpertMatrices& second, std::size_t experts,
                   std::size_t rows, std::size_t cols) {
    first = tensors.Stack(name, experts, 0, rows, 2 * rows, cols);
    second = tensors.Stack(name, experts, rows, rows, 2 * rows, cols);
  }
};

}  // namespace

Weights LoadWeights(TensorTable& tensors, const Config& config, const LoadOptions& options) {
  Weights weights;
  weights.layers.resize(config.layers.size());
  ForEachTensor(config, weights, WeightFiller{tensors, options});
  weights.lm_head.is_last = weights.lm_head.output_scale == 0.0f;
  if (config.generation.query_scale != 1.0) {
    for (LayerWeights& layer : weights.layers) {  // rotary positions keep a factor as it is
      for (float& x : layer.q_norm) x = static_cast<float>(x * config.generation.query_scale);
    }
  }
  return weights;
}

void CheckLimits(const Config& config, const std::string& file) {
  for (const LayerConfig& layer : config.layers) {
    if (layer.head_dim <= kMaxHeadDim) continue;
    throw UnsupportedError("heads that large are not run", "Gemma 4 has heads of 256 and 512 elements.",
                           {.file = file,
                            .tensor = "head_dim",
                            .expected = std::to_string(kMaxHeadDim) + " at most",
                            .found = std::to_string(layer.head_dim)});
  }
}

Products ChooseProducts(const std::string& name, const Weights& weights) {
  if (name != "auto" && name != "float32" && name != "int8") {
    throw ArgumentError("activations is \"" + name + "\"", "Use \"auto\", \"float32\" or \"int8\".");
  }
  bool quantized = false;
  ForEachLinear(weights, [&](const Linear& linear) {
    const Encoding encoding = linear.weight.encoding;
    quantized = quantized || IsCoded(encoding) || IsBlock(encoding);
  });
  return quantized && name != "float32" ? Products::kInteger : Products::kFloat32;
}

}  // namespace gemmule
