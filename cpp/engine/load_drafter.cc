#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "engine/hf_config.h"
#include "engine/hf_tensors.h"
#include "engine/load.h"
#include "engine/load_weights.h"
#include "formats/checkpoint_files.h"

namespace gemmule {
namespace {

// Compares what a drafter's config says with its target.
class Fit {
 public:
  Fit(const Model& target, std::string config_path) : target_(target.config), config_path_(std::move(config_path)) {}

  // The layer of the target that each of the drafter's reads. Throws UnsupportedError where the two do not fit.
  std::vector<std::size_t> Check(const HfDrafterConfig& drafter) const {
    const Config& config = drafter.config;
    Equal("backbone_hidden_size", target_.hidden_size, drafter.backbone_hidden_size);
    Equal("vocab_size", target_.vocab_size, config.vocab_size);
    std::vector<std::size_t> read;
    for (const LayerConfig& layer : config.layers) {
      read.push_back(LastOwner(layer.type));
      const LayerConfig& owner = target_.layers[read.back()];
      Equal("head_dim", owner.head_dim, layer.head_dim);
      Equal("num_key_value_heads", owner.num_key_value_heads, layer.num_key_value_heads);
      if (layer.type == LayerType::kSliding) Equal("sliding_window", target_.sliding_window, config.sliding_window);
    }
    return read;
  }

 private:
  void Equal(const char* name, std::size_t expected, std::size_t found) const {
    if (expected != found) Refuse(name, std::to_string(expected) + ", as the model has it", std::to_string(found));
  }

  std::size_t LastOwner(LayerType type) const {
    for (std::size_t i = target_.layers.size(); i-- > 0;) {
      if (target_.layers[i].type == type && target_.layers[i].kv_owner == i) return i;
    }
    Refuse("layer_types", "types of layers that the model has", "another");
  }

  [[noreturn]] void Refuse(const char* name, std::string expected, std::string found) const {
    throw UnsupportedError(
        "this drafter was made for another model",
        "Use the model's own, whose name is the model's with -assistant at the end.",
        {.file = config_path_, .tensor = name, .expected = std::move(expected), .found = std::move(found)});
  }

  const Config& target_;
  std::string config_path_;
};

Clusters LoadClusters(HfTensors& tensors, const HfDrafterConfig& hf) {
  const Config& config = hf.config;
  return {.centroids = tensors.Matrix("masked_embedding.centroids", hf.num_centroids, config.hidden_size),
          .centroid_intermediate_top_k = hf.centroid_intermediate_top_k,
          .token_ordering = tensors.Ids("masked_embedding.token_ordering", config.vocab_size)};
}

}  // namespace

std::shared_ptr<const DrafterCheckpoint> LoadDrafter(const std::string& folder,
                                                     const std::shared_ptr<const Checkpoint>& target,
                                                     const LoadOptions& options) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(folder, ignored)) {
    throw UnsupportedError("drafters in single files are not run",
                           "Use the drafter's Hugging Face folder, with config.json and safetensors.",
                           {.file = folder, .expected = "a folder", .found = "a file"});
  }
  CheckpointFiles opened = OpenCheckpoint(folder);
  HfDrafterConfig hf = ReadDrafterConfig(opened.config, opened.config_path);
  CheckLimits(hf.config, opened.config_path);

  auto drafter = std::make_shared<DrafterCheckpoint>();
  drafter->target = target;
  DraftModel& model = drafter->model;
  model.kv_layers = Fit(target->model, opened.config_path).Check(hf);
  HfTensors tensors(opened, hf.quantization);
  model.weights = LoadWeights(tensors, hf.config, options);
  model.pre_projection = tensors.Matrix("pre_projection", hf.config.hidden_size, 2 * hf.backbone_hidden_size);
  model.post_projection = tensors.Matrix("post_projection", hf.backbone_hidden_size, hf.config.hidden_size);
  if (hf.num_centroids != 0) model.clusters = LoadClusters(tensors, hf);
  model.products = ChooseProducts(options.activations, model.weights);
  model.config = std::move(hf.config);
  drafter->model_type = hf.model_type;
  drafter->parameters = tensors.elements();
  drafter->weight_bytes = tensors.bytes();
  for (const TensorView& tensor : opened.weights.tensors) {
    if (!tensors.used().contains(tensor.name)) drafter->unknown_tensors.push_back(tensor.name);
  }
  drafter->files = std::move(opened.weights);
  model.files.assign(drafter->files.files.begin(), drafter->files.files.end());
  return drafter;
}

}  // namespace gemmule
