#include "engine/calibration.h"

#include "base/error.h"
#include "engine/activation_counts.h"
#include "engine/decoder.h"
#include "engine/least_squares_scale.h"

namespace gemmule {
namespace {

// Codes of activations, and of the static cache (model/model.h).
constexpr int kActivationBits = 8;
constexpr int kSlidingCacheBits = 8;
constexpr int kFullCacheBits = 4;

// Values that get one scale, of codes of `bits`: each part with the name of its scale.
struct Pool {
  int bits;
  std::vector<std::pair<std::string, const Histogram*>> parts;
};

// The caches of layer `owner`, whose scales the layers that read it repeat.
void AddCaches(const Model& model, const ActivationCounts& counts, std::size_t owner, std::vector<Pool>& pools) {
  const LayerConfig& layer = model.config.layers[owner];
  const int bits = layer.type == LayerType::kSliding ? kSlidingCacheBits : kFullCacheBits;
  Pool keys{bits, {}};
  Pool values{bits, {}};
  for (std::size_t i = owner; i < model.config.layers.size(); ++i) {
    if (model.config.layers[i].kv_owner != owner) continue;
    const std::string attention = "layers." + std::to_string(i) + ".self_attn.";
    keys.parts.emplace_back(attention + "k_cache_scale", &counts.CacheOf(owner).keys);
    values.parts.emplace_back(attention + "v_cache_scale", &counts.CacheOf(owner).values);
  }
  pools.push_back(std::move(keys));
  pools.push_back(std::move(values));
}

// In the order in which the model computes their values.
std::vector<Pool> Pools(const Model& model, const ActivationCounts& counts) {
  std::vector<Pool> pools;
  for (std::size_t i = 0; i < model.config.layers.size(); ++i) {
    for (const ModuleGroup& group : QuantizedModules(model, i)) {
      Pool inputs{kActivationBits, {}};
      Pool outputs{kActivationBits, {}};
      for (const auto& [name, linear] : group) {
        inputs.parts.emplace_back(name + ".input_activation_scale", &counts.Of(*linear).input);
        outputs.parts.emplace_back(name + ".output_activation_scale", &counts.Of(*linear).output);
      }
      pools.push_back(std::move(inputs));
      pools.push_back(std::move(outputs));
      if (group.front().second == &model.weights.layers[i].k_proj) AddCaches(model, counts, i, pools);
    }
  }
  return pools;
}

float ScaleOf(const Pool& pool) {
  Histogram values;
  for (const auto& [name, part] : pool.parts) values.Add(*part);
  return LeastSquaresScale(values, pool.bits);
}

}  // namespace

Calibration::Calibration(const std::string& path, int threads)
    : path_(path),
      checkpoint_(LoadCheckpoint(
          path, {.threads = threads, .activations = "float32", .kv = "float32", .activation_scales = false})),
      parallel_(*checkpoint_->model.workers),
      counts_(std::make_unique<ActivationCounts>(checkpoint_->model, checkpoint_->files, parallel_)) {}

Calibration::~Calibration() = default;

void Calibration::Observe(std::span<const std::int32_t> ids, const Parallel::StopCheck& stop) {
  const Exclusive::Use use(in_use_);
  Decoder(ModelOf(checkpoint_), counts_.get()).RunLayers(ids, stop);
  for (const Pool& pool : Pools(checkpoint_->model, *counts_)) {
    for (const auto& [name, values] : pool.parts) {
      if (!values->HasNonfinite()) continue;
      throw FormatError("the text gives values here that are not finite",
                        {.file = path_, .tensor = name, .expected = "finite numbers", .found = "NaN or infinity"},
                        "Look for broken weights with gemmule verify.");
    }
  }
}

std::vector<std::pair<std::string, float>> Calibration::Scales(const Parallel::StopCheck& stop) {
  constexpr double kSearchCost = 1e7;  // ns a scale, roughly
  const Exclusive::Use use(in_use_);
  const std::vector<Pool> pools = Pools(checkpoint_->model, *counts_);
  std::vector<float> found(pools.size());
  const Parallel::Asking asking(parallel_, stop);
  parallel_.For(pools.size(), 1, kSearchCost, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) found[i] = ScaleOf(pools[i]);
  });
  parallel_.ThrowIfStopped();
  std::vector<std::pair<std::string, float>> scales;
  for (std::size_t i = 0; i < pools.size(); ++i) {
    for (const auto& [name, part] : pools[i].parts) scales.emplace_back(name, found[i]);
  }
  return scales;
}

}  // namespace gemmule
