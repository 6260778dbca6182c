#include "engine/load.h"

#include <algorithm>
#include <cmath>
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
#include "formats/checkpoint_files.h"
#include "formats/gguf_files.h"
#include "kernels/attend.h"

namespace gemmule {
namespace {

void LoadExperts(TensorTable& tensors, const Config& config, const std::string& prefix, LayerWeights& w) {
  const std::size_t d = config.hidden_size;
  const std::size_t experts = config.num_experts;
  const std::size_t m = config.moe_intermediate_size;
  w.router.scale = tensors.Vector(prefix + "router.scale", d);
  w.router.proj = tensors.Matrix(prefix + "router.proj", experts, d);
  w.router.per_expert_scale = tensors.Vector(prefix + "router.per_expert_scale", experts);
  // An expert's gate rows come first, then its up rows.
  w.gate_experts = tensors.Stack(prefix + "experts.gate_up_proj", experts, 0, m, 2 * m, d);
  w.up_experts = tensors.Stack(prefix + "experts.gate_up_proj", experts, m, m, 2 * m, d);
  w.down_experts = tensors.Stack(prefix + "experts.down_proj", experts, 0, d, d, m);
  w.post_feedforward_layernorm_1 = tensors.Vector(prefix + "post_feedforward_layernorm_1.weight", d);
  w.pre_feedforward_layernorm_2 = tensors.Vector(prefix + "pre_feedforward_layernorm_2.weight", d);
  w.post_feedforward_layernorm_2 = tensors.Vector(prefix + "post_feedforward_layernorm_2.weight", d);
}

LayerWeights LoadLayer(TensorTable& tensors, const Config& config, std::size_t i) {
  const LayerConfig& layer = config.layers[i];
  const std::size_t d = config.hidden_size;
  const std::size_t e = layer.head_dim;
  const std::size_t q_width = config.num_attention_heads * e;
  const std::size_t kv_width = layer.num_key_value_heads * e;
  const std::string prefix = "layers." + std::to_string(i) + ".";
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";

  LayerWeights w;
  w.input_layernorm = tensors.Vector(prefix + "input_layernorm.weight", d);
  w.post_attention_layernorm = tensors.Vector(prefix + "post_attention_layernorm.weight", d);
  w.pre_feedforward_layernorm = tensors.Vector(prefix + "pre_feedforward_layernorm.weight", d);
  w.post_feedforward_layernorm = tensors.Vector(prefix + "post_feedforward_layernorm.weight", d);
  if (config.generation.has_layer_scalar) w.layer_scalar = tensors.Scalar(prefix + "layer_scalar");

  w.q_proj = tensors.Matrix(attention + "q_proj", q_width, d);
  w.q_norm = tensors.Vector(attention + "q_norm.weight", e);
  for (float& x : w.q_norm) x = static_cast<float>(x * config.generation.query_scale);  // rope keeps factors
  if (layer.kv_owner == i) {
    w.k_proj = tensors.Matrix(attention + "k_proj", kv_width, d);
    if (layer.has_v_proj) w.v_proj = tensors.Matrix(attention + "v_proj", kv_width, d);
    w.k_norm = tensors.Vector(attention + "k_norm.weight", e);
    w.k_cache_scale = tensors.CacheScale(attention + "k_cache_scale");
    w.v_cache_scale = tensors.CacheScale(attention + "v_cache_scale");
  }
  w.o_proj = tensors.Matrix(attention + "o_proj", d, q_width);

  w.gate_proj = tensors.Matrix(mlp + "gate_proj", layer.intermediate_size, d);
  w.up_proj = tensors.Matrix(mlp + "up_proj", layer.intermediate_size, d);
  w.down_proj = tensors.Matrix(mlp + "down_proj", d, layer.intermediate_size);

  if (config.HasExperts()) LoadExperts(tensors, config, prefix, w);

  if (config.HasPerLayerInput()) {
    const std::size_t p = config.hidden_size_per_layer_input;
    w.per_layer_input_gate = tensors.Matrix(prefix + "per_layer_input_gate", p, d);
    w.per_layer_projection = tensors.Matrix(prefix + "per_layer_projection", d, p);
    w.post_per_layer_input_norm = tensors.Vector(prefix + "post_per_layer_input_norm.weight", d);
  }
  return w;
}

Weights LoadWeights(TensorTable& tensors, const Config& config) {
  const std::size_t d = config.hidden_size;
  const std::size_t v = config.vocab_size;
  Weights w;
  w.embed_tokens = tensors.Table("embed_tokens", v, d, static_cast<float>(std::sqrt(static_cast<double>(d))));
  if (config.HasPerLayerInput()) {
    const std::size_t p = config.hidden_size_per_layer_input;
    const std::size_t width = config.layers.size() * p;
    w.embed_tokens_per_layer = tensors.Table("embed_tokens_per_layer", config.vocab_size_per_layer_input, width,
                                             static_cast<float>(std::sqrt(static_cast<double>(p))));
    w.per_layer_model_projection = tensors.Matrix("per_layer_model_projection", width, d);
    w.per_layer_projection_norm = tensors.Vector("per_layer_projection_norm.weight", p);
  }
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    w.layers.push_back(LoadLayer(tensors, config, i));
  }
  w.norm = tensors.Vector("norm.weight", d);
  w.lm_head = config.tie_word_embeddings ? tensors.TiedHead("embed_tokens", v, d) : tensors.Matrix("lm_head", v, d);
  w.lm_head.is_last = w.lm_head.output_scale == 0.0f;
  return w;
}

// What the kernels cannot hold.
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
  model.weights = LoadWeights(tensors, model.config);
  model.products = ChooseProducts(options.activations, model.weights);
  model.kv = ChooseKv(options.kv, model);
  model.context = ChooseContext(options.context, model.config);
  model.workers = std::make_shared<Workers>(ChooseThreads(options.threads));
  checkpoint.parameters = tensors.elements();
  checkpoint.weight_bytes = tensors.bytes();
  checkpoint.files = std::move(files);
  AccountForTheRest(checkpoint, tensors);
}

void LoadFolder(const std::string& folder, const LoadOptions& options, Checkpoint& checkpoint) {
  CheckpointFiles opened = OpenCheckpoint(folder);
  HfConfig hf = ReadConfig(opened.config, opened.config_path);
  CheckLimits(hf.config, opened.config_path);
  checkpoint.model_type = hf.model_type;
  HfTensors tensors(opened, hf.packing);
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
