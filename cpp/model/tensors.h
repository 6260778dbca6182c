// The list of a model's tensors: loading fills the weights along it, converting writes them along it.
#pragma once

#include <cmath>
#include <string>

#include "model/config.h"
#include "model/weights.h"

namespace gemmule {

// Calls `fields` for every tensor that the model reads, with the name that it has in the Hugging Face format behind
// "model." or "model.language_model." ("lm_head" stands alone; a module's is without ".weight"), with its member of
// `weights` (Weights or const Weights) and with the shape that it must have:
//
//   Vector(name, std::vector<float>&, n)
//   Scalar(name, float&)
//   CacheScale(name, float&)                         0 where the checkpoint has none
//   Matrix(name, Linear&, rows, cols)
//   TiedHead(name of the table, Linear&, rows, cols)
//   Table(name, Embedding&, rows, cols, multiplier)
//   Experts(name, ExpertMatrices&, X, rows, cols)
//   ExpertPairs(name, first, second, X, rows, cols)  of each expert `rows` of the first, then as many of the second
//
// Layers that read another's keys and values may have k_proj, v_proj and k_norm of their own, which the model does not
// use: `fields` is asked for them too where WantsUnused(name of the k_proj module) says so.
//
// Layers are added to `weights` beforehand.
template <class W, class Fields>
void ForEachTensor(const Config& config, W& weights, Fields&& fields) {
  const std::size_t d = config.hidden_size;
  const std::size_t v = config.vocab_size;
  const std::size_t p = config.hidden_size_per_layer_input;
  const auto root = [](std::size_t n) { return static_cast<float>(std::sqrt(static_cast<double>(n))); };

  fields.Table("embed_tokens", weights.embed_tokens, v, d, root(d));
  if (config.HasPerLayerInput()) {
    const std::size_t width = config.layers.size() * p;
    fields.Table("embed_tokens_per_layer", weights.embed_tokens_per_layer, config.vocab_size_per_layer_input, width,
                 root(p));
    fields.Matrix("per_layer_model_projection", weights.per_layer_model_projection, width, d);
    fields.Vector("per_layer_projection_norm.weight", weights.per_layer_projection_norm, p);
  }

  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    auto& w = weights.layers[i];
    const std::size_t e = layer.head_dim;
    const std::size_t q_width = config.num_attention_heads * e;
    const std::size_t kv_width = layer.num_key_value_heads * e;
    const std::string prefix = "layers." + std::to_string(i) + ".";
    const std::string attention = prefix + "self_attn.";
    const std::string mlp = prefix + "mlp.";

    fields.Vector(prefix + "input_layernorm.weight", w.input_layernorm, d);
    fields.Vector(prefix + "post_attention_layernorm.weight", w.post_attention_layernorm, d);
    fields.Vector(prefix + "pre_feedforward_layernorm.weight", w.pre_feedforward_layernorm, d);
    fields.Vector(prefix + "post_feedforward_layernorm.weight", w.post_feedforward_layernorm, d);
    if (config.generation.has_layer_scalar) fields.Scalar(prefix + "layer_scalar", w.layer_scalar);

    fields.Matrix(attention + "q_proj", w.q_proj, q_width, d);
    fields.Vector(attention + "q_norm.weight", w.q_norm, e);
    if (layer.kv_owner == i || fields.WantsUnused(attention + "k_proj")) {
      fields.Matrix(attention + "k_proj", w.k_proj, kv_width, d);
      if (layer.has_v_proj) fields.Matrix(attention + "v_proj", w.v_proj, kv_width, d);
      fields.Vector(attention + "k_norm.weight", w.k_norm, e);
      fields.CacheScale(attention + "k_cache_scale", w.k_cache_scale);
      fields.CacheScale(attention + "v_cache_scale", w.v_cache_scale);
    }
    fields.Matrix(attention + "o_proj", w.o_proj, d, q_width);

    fields.Matrix(mlp + "gate_proj", w.gate_proj, layer.intermediate_size, d);
    fields.Matrix(mlp + "up_proj", w.up_proj, layer.intermediate_size, d);
    fields.Matrix(mlp + "down_proj", w.down_proj, d, layer.intermediate_size);

    if (config.HasExperts()) {
      const std::size_t x = config.num_experts;
      const std::size_t m = config.moe_intermediate_size;
      fields.Vector(prefix + "router.scale", w.router.scale, d);
      fields.Matrix(prefix + "router.proj", w.router.proj, x, d);
      fields.Vector(prefix + "router.per_expert_scale", w.router.per_expert_scale, x);
      fields.ExpertPairs(prefix + "experts.gate_up_proj", w.gate_experts, w.up_experts, x, m, d);
      fields.Experts(prefix + "experts.down_proj", w.down_experts, x, d, m);
      fields.Vector(prefix + "post_feedforward_layernorm_1.weight", w.post_feedforward_layernorm_1, d);
      fields.Vector(prefix + "pre_feedforward_layernorm_2.weight", w.pre_feedforward_layernorm_2, d);
      fields.Vector(prefix + "post_feedforward_layernorm_2.weight", w.post_feedforward_layernorm_2, d);
    }

    if (config.HasPerLayerInput()) {
      fields.Matrix(prefix + "per_layer_input_gate", w.per_layer_input_gate, p, d);
      fields.Matrix(prefix + "per_layer_projection", w.per_layer_projection, d, p);
      fields.Vector(prefix + "post_per_layer_input_norm.weight", w.post_per_layer_input_norm, d);
    }
  }

  fields.Vector("norm.weight", weights.norm, d);
  if (config.tie_word_embeddings) {
    fields.TiedHead("embed_tokens", weights.lm_head, v, d);
  } else {
    fields.Matrix("lm_head", weights.lm_head, v, d);
  }
}

}  // namespace gemmule
