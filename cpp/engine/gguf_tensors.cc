#include "engine/gguf_tensors.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace gemmule {
namespace {

struct Renamed {
  std::string_view name;
  std::string_view in_file;
};

// Source: llama.cpp, gguf-py/gguf/tensor_mapping.py. The files hold all values as they were, in the order they had.
constexpr Renamed kModelNames[] = {
    {"embed_tokens.weight", "token_embd.weight"},
    {"embed_tokens_per_layer.weight", "per_layer_token_embd.weight"},
    {"per_layer_model_projection.weight", "per_layer_model_proj.weight"},
    {"per_layer_projection_norm.weight", "per_layer_proj_norm.weight"},
    {"norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};
constexpr std::string_view kLayers = "layers.";
constexpr std::string_view kBlocks = "blk.";

// Behind kLayers or kBlocks, the layer's number and a dot.
constexpr Renamed kLayerNames[] = {
    {"input_layernorm.weight", "attn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
    {"post_attention_layernorm.weight", "post_attention_norm.weight"},
    {"pre_feedforward_layernorm.weight", "ffn_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight"},
    {"layer_scalar", "layer_output_scale.weight"},
    {"per_layer_input_gate.weight", "inp_gate.weight"},
    {"per_layer_projection.weight", "proj.weight"},
    {"post_per_layer_input_norm.weight", "post_norm.weight"},
    {"router.proj.weight", "ffn_gate_inp.weight"},
    {"router.scale", "ffn_gate_inp.scale"},
    {"router.per_expert_scale", "ffn_down_exps.scale"},
    {"experts.gate_up_proj", "ffn_gate_up_exps.weight"},
    {"experts.gate_proj", "ffn_gate_exps.weight"},
    {"experts.up_proj", "ffn_up_exps.weight"},
    {"experts.down_proj", "ffn_down_exps.weight"},
    {"post_feedforward_layernorm_1.weight", "post_ffw_norm_1.weight"},
    {"pre_feedforward_layernorm_2.weight", "pre_ffw_norm_2.weight"},
    {"post_feedforward_layernorm_2.weight", "post_ffw_norm_2.weight"},
};

// The name in the file; `name` itself where the table lacks it.
template <std::size_t kCount>
std::string Translate(const Renamed (&table)[kCount], std::string_view name) {
  const auto at =
      std::find_if(std::begin(table), std::end(table), [&](const Renamed& row) { return row.name == name; });
  return std::string(at == std::end(table) ? name : at->in_file);
}

// The same the other way; empty where the table lacks it.
template <std::size_t kCount>
std::string TranslateBack(const Renamed (&table)[kCount], std::string_view in_file) {
  const auto at =
      std::find_if(std::begin(table), std::end(table), [&](const Renamed& row) { return row.in_file == in_file; });
  return std::string(at == std::end(table) ? std::string_view() : at->name);
}

std::optional<Encoding> EncodingOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0: return Encoding::kQ4_0;
    case DType::kQ4_1: return Encoding::kQ4_1;
    case DType::kQ5_0: return Encoding::kQ5_0;
    case DType::kQ5_1: return Encoding::kQ5_1;
    case DType::kQ8_0: return Encoding::kQ8_0;
    case DType::kQ4_K: return Encoding::kQ4_K;
    case DType::kQ5_K: return Encoding::kQ5_K;
    case DType::kQ6_K: return Encoding::kQ6_K;
    default: return FloatEncoding(dtype);
  }
}

std::string ModuleName(const TensorView& weight) {
  return weight.name.substr(0, weight.name.size() - std::string_view(".weight").size());
}

constexpr char kDivisors[] = "rope_freqs.weight";

}  // namespace

std::string GgufTensors::GgufName(const std::string& name) {
  if (!name.starts_with(kLayers)) return Translate(kModelNames, name);
  const std::size_t dot = name.find('.', kLayers.size());
  return std::string(kBlocks) + name.substr(kLayers.size(), dot + 1 - kLayers.size()) +
         Translate(kLayerNames, name.substr(dot + 1));
}

std::string GgufTensors::HfName(const std::string& in_file) {
  if (!in_file.starts_with(kBlocks)) return TranslateBack(kModelNames, in_file);
  const std::size_t dot = in_file.find('.', kBlocks.size());
  if (dot == std::string::npos) return "";
  const std::string name = TranslateBack(kLayerNames, std::string_view(in_file).substr(dot + 1));
  return name.empty() ? "" : std::string(kLayers) + in_file.substr(kBlocks.size(), dot + 1 - kBlocks.size()) + name;
}

GgufTensors::Stored GgufTensors::NeedStored(const std::string& name, const std::vector<std::uint64_t>& shape) {
  const TensorView& tensor = Need(name);
  const auto encoding = EncodingOf(tensor.dtype);
  if (!encoding) WrongShape(tensor, "floats or blocks " + ShapeText(shape));
  if (tensor.shape != shape) WrongShape(tensor, tensor.dtype_name + " " + ShapeText(shape));
  return {tensor, *encoding};
}

Linear GgufTensors::Matrix(const std::string& name, std::size_t rows, std::size_t cols) {
  const auto [tensor, encoding] = NeedStored(name + ".weight", {rows, cols});
  Count(tensor, std::uint64_t{rows} * cols);
  return {.name = ModuleName(tensor), .weight = {encoding, tensor.bytes.data(), rows, cols}};
}

ExpertMatrices GgufTensors::Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                                  std::size_t all_rows, std::size_t cols) {
  const std::size_t joint = name.rfind("gate_up_proj");
  if (joint != std::string::npos && !Has(name)) {
    return Stack(name.substr(0, joint) + (first == 0 ? "gate_proj" : "up_proj"), experts, 0, rows, rows, cols);
  }
  const auto [tensor, encoding] = NeedStored(name, {experts, all_rows, cols});
  if (first == 0) Count(tensor, std::uint64_t{experts} * all_rows * cols);
  const std::size_t row_bytes = RowBytes(encoding, cols);
  return {encoding, tensor.bytes.data() + first * row_bytes, rows, cols, all_rows * row_bytes};
}

Embedding GgufTensors::Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier) {
  const auto [tensor, encoding] = NeedStored(name + ".weight", {rows, cols});
  Count(tensor, std::uint64_t{rows} * cols);
  return {.name = ModuleName(tensor),
          .encoding = encoding,
          .cols = cols,
          .codes = files_.Rows(tensor),
          .scales = nullptr,
          .multiplier = multiplier,
          .whole = {encoding, tensor.bytes.data(), rows, cols}};
}

Linear GgufTensors::TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols) {
  const auto [tensor, encoding] = NeedStored(embedding + ".weight", {rows, cols});
  return {.name = "lm_head", .weight = {encoding, tensor.bytes.data(), rows, cols}};
}

std::vector<std::string> GgufTensors::Leftovers(const Config& config) const {
  std::vector<std::string> leftovers;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].kv_owner == i) continue;
    const std::string layer = "blk." + std::to_string(i) + ".";
    for (const char* name : {"attn_k.", "attn_v.", "attn_k_norm."}) leftovers.push_back(layer + name);
  }
  return leftovers;
}

std::size_t GgufTensors::TurningAngles(std::size_t half) {
  if (!Has(kDivisors)) return half;
  const std::vector<float> divisors = Decoded(Need(kDivisors), half);
  const auto first_still = std::find_if(divisors.begin(), divisors.end(), [](float x) { return x != 1.0f; });
  const bool still = std::all_of(first_still, divisors.end(), [](float x) { return x == 1e30f; });
  if (!still) {
    throw UnsupportedError("rotary positions with other divisors of the angles are not run",
                           "Use a checkpoint as published, without context stretching.",
                           {.file = files_.files[files_.Find(kDivisors)->file]->path(),
                            .tensor = kDivisors,
                            .expected = "1 for angles that turn, then 1e30 for those that do not",
                            .found = "other values"});
  }
  return static_cast<std::size_t>(first_still - divisors.begin());
}

}  // namespace gemmule
