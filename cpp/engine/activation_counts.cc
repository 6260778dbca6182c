#include "engine/activation_counts.h"

#include <algorithm>

#include "model/linear.h"

namespace gemmule {
namespace {

constexpr std::size_t kParts = 16;            // threads that count at once, at most
constexpr std::size_t kPartValues = 1 << 15;  // for which a histogram of their own is worth it, at least
constexpr double kCountCost = 2.0;            // ns a value, roughly

}  // namespace

std::vector<ModuleGroup> QuantizedModules(const Model& model, std::size_t i) {
  const LayerWeights& w = model.weights.layers[i];
  const std::string layer = "layers." + std::to_string(i) + ".";
  const std::string attention = layer + "self_attn.";
  const std::string mlp = layer + "mlp.";
  std::vector<ModuleGroup> groups = {{{attention + "q_proj", &w.q_proj}}};
  if (model.config.layers[i].kv_owner == i) {
    groups.push_back({{attention + "k_proj", &w.k_proj}});
    if (model.config.layers[i].has_v_proj) groups.back().emplace_back(attention + "v_proj", &w.v_proj);
  }
  groups.push_back({{attention + "o_proj", &w.o_proj}});
  groups.push_back({{mlp + "gate_proj", &w.gate_proj}, {mlp + "up_proj", &w.up_proj}});
  groups.push_back({{mlp + "down_proj", &w.down_proj}});
  if (model.config.HasPerLayerInput()) {
    groups.push_back({{layer + "per_layer_input_gate", &w.per_layer_input_gate}});
    groups.push_back({{layer + "per_layer_projection", &w.per_layer_projection}});
  }
  return groups;
}

ActivationCounts::ActivationCounts(const Model& model, const TensorFiles& files, Parallel& parallel)
    : files_(files), parallel_(parallel), caches_(model.config.layers.size()), parts_(kParts) {
  for (std::size_t i = 0; i < model.config.layers.size(); ++i) {
    for (const ModuleGroup& group : QuantizedModules(model, i)) {
      for (const auto& [name, linear] : group) modules_[linear];
    }
  }
}

void ActivationCounts::OnLinear(const float* x, std::size_t tokens, std::span<const LinearCall> calls) {
  for (const LinearCall& call : calls) {
    const MatrixView& weight = call.linear->weight;
    files_.ForgetPages({weight.data, weight.bytes()});
    const auto module = modules_.find(call.linear);
    if (module == modules_.end()) continue;
    Count(x, tokens, weight.cols, weight.cols, module->second.input);
    Count(call.y, tokens, weight.rows, call.y_stride, module->second.output);
  }
}

void ActivationCounts::OnKeysValues(std::size_t layer, std::span<const float> keys, std::span<const float> values) {
  Count(keys.data(), 1, keys.size(), keys.size(), caches_[layer].keys);
  Count(values.data(), 1, values.size(), values.size(), caches_[layer].values);
}

void ActivationCounts::Count(const float* rows, std::size_t tokens, std::size_t width, std::size_t stride,
                             Histogram& to) {
  const std::size_t count = std::clamp<std::size_t>(tokens * width / kPartValues, 1, kParts);
  // Every part takes its share of each row. Sums of whole numbers do not depend on who has which.
  const std::size_t share = (width + count - 1) / count;
  const double cost = kCountCost * static_cast<double>(tokens * share);
  parallel_.For(count, 1, cost, [&](std::size_t begin, std::size_t end) {
    for (std::size_t part = begin; part < end; ++part) {
      Histogram& counts = count == 1 ? to : parts_[part];
      const std::size_t first = std::min(width, part * share);
      const std::size_t last = std::min(width, first + share);
      for (std::size_t t = 0; t < tokens; ++t) counts.Add({rows + t * stride + first, last - first});
    }
  });
  if (count == 1) return;
  for (std::size_t part = 0; part < count; ++part) {
    to.Add(parts_[part]);
    parts_[part].Clear();
  }
}

}  // namespace gemmule
