#include "model/forward.h"

#include <algorithm>
#include <cmath>

#include "base/page_guard.h"
#include "kernels/elementwise.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

namespace gemmule {

Forward::Forward(const Model& model, Parallel& parallel, Observer* observer)
    : model_(model),
      config_(model.config),
      parallel_(parallel),
      observer_(observer),
      linear_(model.products, parallel, observer),
      attention_(parallel),
      experts_(config_, linear_, parallel) {
  for (const LayerConfig& layer : config_.layers) {
    const RopeParameters& rope = config_.Rope(layer.type);
    const auto same = [&](const RopeTable& table) { return table.IsFor(rope, layer.head_dim); };
    if (std::none_of(ropes_.begin(), ropes_.end(), same)) ropes_.emplace_back(rope, layer.head_dim);
  }
}

RopeTable& Forward::Rope(const LayerConfig& layer) {
  return *std::find_if(ropes_.begin(), ropes_.end(),
                       [&](const RopeTable& table) { return table.IsFor(config_.Rope(layer.type), layer.head_dim); });
}

void Forward::Watch(Profile* profile) {
  profile_ = profile;
  parallel_.Watch(profile);
}

template <class Body>
void Forward::ForTokens(const Body& body) {
  const double cost = 0.5 * static_cast<double>(config_.hidden_size);  // ns: a norm and a sum
  parallel_.For(tokens_, 1, cost, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) body(t);
  });
}

void Forward::Begin(std::span<const Segment> segments, std::span<const std::int32_t> ids) {
  const std::size_t d = config_.hidden_size;
  PageGuard::ComeFirst();
  model_.CheckFiles();
  if (profile_ != nullptr) profile_->Start();
  layer_ = config_.layers.size();
  segments_.assign(segments.begin(), segments.end());
  positions_.clear();
  caches_.clear();
  for (const Segment& segment : segments) {
    segment.cache->Reserve(segment.position, segment.position + segment.tokens);
    for (std::size_t i = 0; i < segment.tokens; ++i) {
      positions_.push_back(segment.position + i);
      caches_.push_back(segment.cache);
    }
  }
  skipped_ = 0;
  tokens_ = ids.size();
  x_.Reserve(tokens_ * d);
  normed_.Reserve(tokens_ * d);
  branch_.Reserve(tokens_ * d);
  for (std::size_t t = 0; t < tokens_; ++t) {
    model_.weights.embed_tokens.Read(config_.EmbeddingRow(ids[t]), Token(t));
  }
  for (RopeTable& rope : ropes_) rope.Fill(positions_);
  Done(Operation::kEmbedding);
  if (config_.HasPerLayerInput()) PerLayerInputs(ids);
}

// per_layer = (norm(projection(x) / sqrt(D)) + row of the per-layer embedding) / sqrt(2), each layer's P values apart.
void Forward::PerLayerInputs(std::span<const std::int32_t> ids) {
  const Weights& w = model_.weights;
  const std::size_t p = config_.hidden_size_per_layer_input;
  const std::size_t width = config_.layers.size() * p;
  const auto projection_factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.hidden_size)));
  const auto sum_factor = static_cast<float>(1.0 / std::sqrt(2.0));
  per_layer_.Reserve(tokens_ * width);
  per_layer_rows_.Reserve(tokens_ * width);
  linear_.Run(x_.data(), tokens_, {{&w.per_layer_model_projection, per_layer_.data(), width}});
  for (std::size_t t = 0; t < tokens_; ++t) {  // on this thread: a file that cannot be read throws
    w.embed_tokens_per_layer.Read(config_.EmbeddingRow(ids[t]), {per_layer_rows_.data() + t * width, width});
  }
  const double cost = 0.5 * static_cast<double>(width);  // ns: norms and sums
  parallel_.For(tokens_, 1, cost, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const std::span<float> inputs(per_layer_.data() + t * width, width);
      Scale(projection_factor, inputs);
      for (std::size_t i = 0; i < width; i += p) {
        RmsNorm(inputs.subspan(i, p), w.per_layer_projection_norm, config_.rms_norm_eps, inputs.subspan(i, p));
      }
      AddTo({per_layer_rows_.data() + t * width, width}, inputs);
      Scale(sum_factor, inputs);
    }
  });
  Done(Operation::kPerLayerInputs);
}

void Forward::Layer(std::size_t i) {
  layer_ = i;
  Attention(i);
  Mlp(i);
  if (config_.HasPerLayerInput()) PerLayerInput(i);
  Scale(model_.weights.layers[i].layer_scalar, stream());
  Done(Operation::kNorms);
}

void Forward::KeepLast(std::size_t count) {
  std::size_t dropped = tokens_ - count;
  skipped_ += dropped;
  tokens_ = count;
  for (Segment& segment : segments_) {
    const std::size_t from_it = std::min(dropped, segment.tokens);
    segment.position += from_it;
    segment.tokens -= from_it;
    dropped -= from_it;
  }
}

void Forward::NormInto(std::span<const float> weight) {
  const std::size_t d = config_.hidden_size;
  ForTokens([&](std::size_t t) { RmsNorm(Token(t), weight, config_.rms_norm_eps, {normed_.data() + t * d, d}); });
  Done(Operation::kNorms);
}

void Forward::AddNormed(const float* branch, std::span<const float> weight) {
  const std::size_t d = config_.hidden_size;
  ForTokens([&](std::size_t t) {
    const std::span<float> normed(normed_.data() + t * d, d);
    RmsNorm({branch + t * d, d}, weight, config_.rms_norm_eps, normed);
    AddTo(normed, Token(t));
  });
  Done(Operation::kNorms);
}

void Forward::Attention(std::size_t i) {
  const LayerConfig& layer = config_.layers[i];
  const LayerWeights& w = model_.weights.layers[i];
  const std::size_t e = layer.head_dim;
  const std::size_t heads = config_.num_attention_heads;
  const std::size_t groups = layer.num_key_value_heads;
  const std::size_t q_width = heads * e;
  const std::size_t kv_width = groups * e;
  const bool owns_keys = layer.kv_owner == i;
  const float eps = config_.rms_norm_eps;
  RopeTable& rope = Rope(layer);
  q_.Reserve(tokens_ * q_width);

  NormInto(w.input_layernorm);
  if (!owns_keys) {
    linear_.Run(normed_.data(), tokens_, {{&w.q_proj, q_.data(), q_width}});
  } else {
    k_.Reserve(tokens_ * kv_width);
    v_.Reserve(tokens_ * kv_width);
    if (layer.has_v_proj) {
      linear_.Run(
          normed_.data(), tokens_,
          {{&w.q_proj, q_.data(), q_width}, {&w.k_proj, k_.data(), kv_width}, {&w.v_proj, v_.data(), kv_width}});
    } else {
      linear_.Run(normed_.data(), tokens_, {{&w.q_proj, q_.data(), q_width}, {&w.k_proj, k_.data(), kv_width}});
      std::copy_n(k_.data(), tokens_ * kv_width, v_.data());  // before k's own norm and rope
    }
  }

  Done(Operation::kQkv);

  ForTokens([&](std::size_t t) {
    const auto cos = rope.Cos(skipped_ + t);
    const auto sin = rope.Sin(skipped_ + t);
    for (std::size_t h = 0; h < heads; ++h) {
      const std::span<float> q(q_.data() + t * q_width + h * e, e);
      RmsNorm(q, w.q_norm, eps, q);
      gemmule::Rope(cos, sin, q);
    }
    if (!owns_keys) return;
    for (std::size_t g = 0; g < groups; ++g) {
      const std::span<float> k(k_.data() + t * kv_width + g * e, e);
      RmsNorm(k, w.k_norm, eps, k);
      gemmule::Rope(cos, sin, k);
      const std::span<float> v(v_.data() + t * kv_width + g * e, e);
      if (config_.generation.norms_values) RmsNorm(v, {}, eps, v);
    }
    caches_[skipped_ + t]->Write(i, positions_[skipped_ + t], {k_.data() + t * kv_width, kv_width},
                                 {v_.data() + t * kv_width, kv_width});
  });
  if (observer_ && owns_keys) {
    observer_->OnKeysValues(i, {k_.data(), tokens_ * kv_width}, {v_.data(), tokens_ * kv_width});
  }
  Done(Operation::kRope);

  attentions_.clear();
  for (const Segment& segment : segments_) {
    attentions_.push_back({segment.cache->View(layer.kv_owner), segment.position, segment.tokens});
  }
  attention_.Run(attentions_,
                 {.window = layer.type == LayerType::kSliding ? config_.sliding_window : AttentionShape::kNoWindow,
                  .heads = heads,
                  .kv_heads = groups,
                  .head_dim = e},
                 q_.data());
  Done(Operation::kAttention);

  linear_.Run(q_.data(), tokens_, {{&w.o_proj, branch_.data(), config_.hidden_size}});
  Done(Operation::kOProj);
  AddNormed(branch_.data(), w.post_attention_layernorm);
}

void Forward::Mlp(std::size_t i) {
  const LayerWeights& w = model_.weights.layers[i];
  const std::size_t f = config_.layers[i].intermediate_size;
  gated_.Reserve(tokens_ * f);
  up_.Reserve(tokens_ * f);
  NormInto(w.pre_feedforward_layernorm);
  const GatedCall gated{&w.gate_proj, &w.up_proj, normed_.data(), tokens_, up_.data(), gated_.data()};
  linear_.RunGated({&gated, 1});
  Done(Operation::kGateUp);
  linear_.Run(gated_.data(), tokens_, {{&w.down_proj, branch_.data(), config_.hidden_size}});
  Done(Operation::kDown);
  if (config_.HasExperts()) AddExperts(i);
  AddNormed(branch_.data(), w.post_feedforward_layernorm);
}

void Forward::AddExperts(std::size_t i) {
  const LayerWeights& w = model_.weights.layers[i];
  const std::size_t d = config_.hidden_size;
  expert_.Reserve(tokens_ * d);
  NormInto(w.pre_feedforward_layernorm_2);
  experts_.Run(w, stream().data(), normed_.data(), tokens_, expert_.data());
  ForTokens([&](std::size_t t) {
    const std::span<float> dense(branch_.data() + t * d, d);
    const std::span<float> expert(expert_.data() + t * d, d);
    RmsNorm(dense, w.post_feedforward_layernorm_1, config_.rms_norm_eps, dense);
    RmsNorm(expert, w.post_feedforward_layernorm_2, config_.rms_norm_eps, expert);
    AddTo(expert, dense);
  });
  Done(Operation::kExperts);
}

void Forward::PerLayerInput(std::size_t i) {
  const LayerWeights& w = model_.weights.layers[i];
  const std::size_t p = config_.hidden_size_per_layer_input;
  const std::size_t width = config_.layers.size() * p;
  gate_.Reserve(tokens_ * p);
  linear_.Run(stream().data(), tokens_, {{&w.per_layer_input_gate, gate_.data(), p}});
  ForTokens([&](std::size_t t) {
    const std::span<float> gate(gate_.data() + t * p, p);
    GeluMul(gate, {per_layer_.data() + (skipped_ + t) * width + i * p, p}, gate);
  });
  linear_.Run(gate_.data(), tokens_, {{&w.per_layer_projection, branch_.data(), config_.hidden_size}});
  Done(Operation::kPerLayerInput);
  AddNormed(branch_.data(), w.post_per_layer_input_norm);
}

void Forward::Hidden(std::size_t first, std::size_t count, float* hidden) {
  const std::size_t d = config_.hidden_size;
  for (std::size_t t = 0; t < count; ++t) {
    RmsNorm(Token(first + t), model_.weights.norm, config_.rms_norm_eps, {hidden + t * d, d});
  }
}

void Forward::Logits(std::size_t first, std::size_t count, float* logits) {
  const std::size_t v = config_.vocab_size;
  layer_ = config_.layers.size();
  Hidden(first, count, normed_.data());
  linear_.Run(normed_.data(), count, {{&model_.weights.lm_head, logits, v}});
  if (config_.final_logit_softcapping != 0.0f) {
    parallel_.For(count * v, 1024, 1.0, [&](std::size_t begin, std::size_t end) {
      Softcap(config_.final_logit_softcapping, {logits + begin, end - begin});
    });
  }
  Done(Operation::kHead);
}

}  // namespace gemmule
