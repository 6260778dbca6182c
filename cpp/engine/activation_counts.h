// Histograms of what goes through a model: the inputs and outputs of its quantized modules, its keys and values.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "engine/histogram.h"
#include "formats/tensor_files.h"
#include "model/model.h"
#include "model/observer.h"

namespace gemmule {

// Modules that the mobile format gives one input scale and one output scale: they read the same input, and are one
// operation in the vendor's own runtime.
using ModuleGroup = std::vector<std::pair<std::string, const Linear*>>;

// The quantized modules of layer i, in the order in which they run, by their names in the Hugging Face format behind
// "model.language_model.".
std::vector<ModuleGroup> QuantizedModules(const Model& model, std::size_t i);

class ActivationCounts : public Observer {
 public:
  struct Module {
    Histogram input;
    Histogram output;
  };
  struct Cache {
    Histogram keys;
    Histogram values;
  };

  // All must outlive it. `files` hold the weights: their pages are given back as soon as a module has used them, so
  // that memory does not grow with the model.
  ActivationCounts(const Model& model, const TensorFiles& files, Parallel& parallel);

  // Modules that are not quantized are left out.
  void OnLinear(const float* x, std::size_t tokens, std::span<const LinearCall> calls) override;
  void OnKeysValues(std::size_t layer, std::span<const float> keys, std::span<const float> values) override;

  const Module& Of(const Linear& linear) const { return modules_.at(&linear); }
  // Empty for a layer that owns no keys.
  const Cache& CacheOf(std::size_t layer) const { return caches_[layer]; }

 private:
  // rows (T, width), `stride` apart.
  void Count(const float* rows, std::size_t tokens, std::size_t width, std::size_t stride, Histogram& to);

  const TensorFiles& files_;
  Parallel& parallel_;
  std::unordered_map<const Linear*, Module> modules_;
  std::vector<Cache> caches_;
  std::vector<Histogram> parts_;  // what several threads count at once
};

}  // namespace gemmule
