#include "engine/load.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/cpu.h"
#include "base/error.h"
#include "engine/gguf_config.h"
#include "engine/gguf_tensors.h"
#include "engine/hf_config.h"
#include "engine/hf_tensors.h"
#include "engine/load_weights.h"
#include "formats/checkpoint_files.h"
#include "formats/gguf_files.h"

namespace gemmule {
namespace {

bool HasCacheScales(const Model& model) {
  for (std::size_t i = 0; i < model.config.layers.size(); ++i) {
    const LayerWeights& layer = model.weights.layers[i];
    if (model.config.layers[i].kv_owner == i && !(layer.k_cache_scale > 0 && layer.v_cache_scale > 0)) return false;
  }
  return true;
}

KvMode ChooseKv(const std::string& name, const Model& model) {
  const bool calibrated = HasCacheScales(model);
  if (name == "auto") return calibrated ? KvMode::kStatic : KvMode::kFloat32;
  if (name == "float32") return KvMode::kFloat32;
  if (name == "bf16") return KvMode::kBf16;
  if (name != "static") {
    throw ArgumentError("kv is \"" + name + "\"", "Use \"auto\", \"float32\", \"bf16\" or \"static\".");
  }
  if (!calibrated) {
    throw UnsupportedError("kv=\"static\" needs a k_cache_scale and a v_cache_scale above 0 in every layer",
                           "Only mobile checkpoints carry them; use kv=\"float32\" or kv=\"bf16\".");
  }
  return KvMode::kStatic;
}

std::size_t ChooseContext(std::size_t wanted, const Config& config) {
  const std::size_t most = config.max_position_embeddings;
  if (wanted > most) {
    throw ArgumentError("context is " + std::to_string(wanted) + "; the checkpoint was made for " +
                            std::to_string(most) + " positions at most",
                        "Use a context of at most " + std::to_string(most) + ", or leave it out.");
  }
  return wanted == 0 ? most : wanted;
}

int ChooseThreads(int wanted) {
  constexpr int kMost = 1024;
  if (wanted < 0 || wanted > kMost) {
    throw ArgumentError("threads is " + std::to_string(wanted) + "; want 1 to " + std::to_string(kMost));
  }
  return wanted == 0 ? DefaultThreads() : wanted;
}

bool StartsWithAny(std::string_view name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& p) { return name.starts_with(p); });
}

// Sorts the tensors that no one asked for into those that may be there and those we know nothing of.
void AccountForTheRest(Checkpoint& checkpoint, const TensorTable& tensors) {
  const std::vector<std::string> leftovers = tensors.Leftovers(checkpoint.model.config);
  const std::vector<std::string> towers = tensors.Towers();
  for (const TensorView& tensor : checkpoint.files.tensors) {
    if (tensors.used().contains(tensor.name)) continue;
    auto& list = StartsWithAny(tensor.name, towers)      ? checkpoint.skipped_tensors
                 : StartsWithAny(tensor.name, leftovers) ? checkpoint.leftover_tensors
                                                         : checkpoint.unknown_tensors;
    list.push_back(tensor.name);
  }
}

// What is the same for every kind of checkpoint: `config` and the `tensors` it asks for, whose files are moved in last.
void Fill(Checkpoint& checkpoint, Config config, TensorTable& tensors, TensorFiles& files, const LoadOptions& options) {
  Model& model = checkpoint.model;
  model.config = std::move(config);
  model.weights = LoadWeights(tensors, model.config, options);
  model.products = ChooseProducts(options.activations, model.weights);
  model.kv = ChooseKv(options.kv, model);
  model.context = ChooseContext(options.context, model.config);
  model.workers = std::make_shared<Workers>(ChooseThreads(options.threads));
  checkpoint.parameters = tensors.elements();
  checkpoint.weight_bytes = tensors.bytes();
  checkpoint.files = std::move(files);
  model.files.assign(checkpoint.files.files.begin(), checkpoint.files.files.end());
  model.CheckFiles();
  AccountForTheRest(checkpoint, tensors);
}

void LoadFolder(const std::string& folder, const LoadOptions& options, Checkpoint& checkpoint) {
  CheckpointFiles opened = OpenCheckpoint(folder);
  HfConfig hf = ReadConfig(opened.config, opened.config_path);
  CheckLimits(hf.config, opened.config_path);
  checkpoint.model_type = hf.model_type;
  HfTensors tensors(opened, std::move(hf.quantization));
  Fill(checkpoint, std::move(hf.config), tensors, opened.weights, options);
}

void LoadGguf(const std::string& path, const LoadOptions& options, Checkpoint& checkpoint) {
  GgufFiles opened = OpenGguf(path);
  GgufTensors tensors(opened);
  Config config = ReadGgufConfig(opened, tensors);
  CheckLimits(config, opened.path);
  checkpoint.model_type = ReadArchitecture(opened.metadata);
  checkpoint.end_tokens = ReadEndTokens(opened.metadata);
  Fill(checkpoint, std::move(config), tensors, opened.weights, options);
  checkpoint.metadata = std::move(opened.metadata);
}

}  // namespace

std::shared_ptr<const Checkpoint> LoadCheckpoint(const std::string& path, const LoadOptions& options) {
  auto checkpoint = std::make_shared<Checkpoint>();
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored)) {
    LoadGguf(path, options, *checkpoint);
  } else {
    LoadFolder(path, options, *checkpoint);
  }
  return checkpoint;
}

}  // namespace gemmule
