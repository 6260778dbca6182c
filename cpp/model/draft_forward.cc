#include "model/draft_forward.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "base/page_guard.h"
#include "kernels/elementwise.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

namespace gemmule {

DraftForward::DraftForward(const DraftModel& model, Parallel& parallel)
    : model_(model),
      config_(model.config),
      linear_(model.products, parallel),
      attention_(parallel),
      x_(config_.hidden_size),
      normed_(config_.hidden_size),
      branch_(config_.hidden_size) {
  for (const LayerConfig& layer : config_.layers) {
    ropes_.emplace_back(config_.Rope(layer.type), layer.head_dim);
    q_.Reserve(config_.num_attention_heads * layer.head_dim);
    gated_.Reserve(layer.intermediate_size);
    up_.Reserve(layer.intermediate_size);
  }
  if (model.clusters) {
    const Clusters& clusters = *model.clusters;
    scores_.Reserve(clusters.centroids.weight.rows);
    clusters_.resize(clusters.centroids.weight.rows);
    taken_.resize(config_.vocab_size);
    // All at once: a failure in the middle of them would leave ids taken.
    ids_.reserve(clusters.centroid_intermediate_top_k * (clusters.token_ordering.size() / clusters_.size()));
  }
}

void DraftForward::Step(const KvCache& cache, std::size_t position, std::span<const float> input,
                        std::span<float> logits, std::span<float> vector) {
  PageGuard::ComeFirst();
  for (const auto& file : model_.files) file->CheckWhole();
  linear_.Run(input.data(), 1, {{&model_.pre_projection, x_.data(), config_.hidden_size}});
  for (std::size_t i = 0; i < config_.layers.size(); ++i) {
    Attention(i, cache, position);
    Mlp(i);
    Scale(model_.weights.layers[i].layer_scalar, {x_.data(), config_.hidden_size});
  }
  NormInto(model_.weights.norm);
  linear_.Run(normed_.data(), 1, {{&model_.post_projection, vector.data(), vector.size()}});
  Head(logits);
}

void DraftForward::NormInto(std::span<const float> weight) {
  const std::size_t d = config_.hidden_size;
  RmsNorm({x_.data(), d}, weight, config_.rms_norm_eps, {normed_.data(), d});
}

void DraftForward::AddNormed(std::span<const float> weight) {
  const std::span<float> branch(branch_.data(), config_.hidden_size);
  RmsNorm(branch, weight, config_.rms_norm_eps, branch);
  AddTo(branch, {x_.data(), config_.hidden_size});
}

void DraftForward::Attention(std::size_t i, const KvCache& cache, std::size_t position) {
  const LayerConfig& layer = config_.layers[i];
  const LayerWeights& w = model_.weights.layers[i];
  const std::size_t e = layer.head_dim;
  const std::size_t heads = config_.num_attention_heads;
  RopeTable& rope = ropes_[i];
  rope.Fill({&position, 1});

  NormInto(w.input_layernorm);
  linear_.Run(normed_.data(), 1, {{&w.q_proj, q_.data(), heads * e}});
  for (std::size_t h = 0; h < heads; ++h) {
    const std::span<float> q(q_.data() + h * e, e);
    RmsNorm(q, w.q_norm, config_.rms_norm_eps, q);
    Rope(rope.Cos(0), rope.Sin(0), q);
  }
  // Seen from the last key, whose window is one key longer here: transformers counts the distance to it, not the keys.
  const AttentionSegment keys{cache.View(model_.kv_layers[i]), position - 1, 1};
  attention_.Run({&keys, 1},
                 {.window = layer.type == LayerType::kSliding ? config_.sliding_window + 1 : AttentionShape::kNoWindow,
                  .heads = heads,
                  .kv_heads = layer.num_key_value_heads,
                  .head_dim = e},
                 q_.data());
  linear_.Run(q_.data(), 1, {{&w.o_proj, branch_.data(), config_.hidden_size}});
  AddNormed(w.post_attention_layernorm);
}

void DraftForward::Mlp(std::size_t i) {
  const LayerWeights& w = model_.weights.layers[i];
  NormInto(w.pre_feedforward_layernorm);
  const GatedCall gated{&w.gate_proj, &w.up_proj, normed_.data(), 1, up_.data(), gated_.data()};
  linear_.RunGated({&gated, 1});
  linear_.Run(gated_.data(), 1, {{&w.down_proj, branch_.data(), config_.hidden_size}});
  AddNormed(w.post_feedforward_layernorm);
}

void DraftForward::Head(std::span<float> logits) {
  if (model_.clusters) {
    ClusterLogits(*model_.clusters, logits);
  } else {
    linear_.Run(normed_.data(), 1, {{&model_.weights.lm_head, logits.data(), logits.size()}});
  }
}

void DraftForward::ClusterLogits(const Clusters& clusters, std::span<float> logits) {
  const std::span<float> scores(scores_.data(), clusters_.size());
  const std::size_t size = clusters.token_ordering.size() / clusters_.size();
  linear_.Run(normed_.data(), 1, {{&clusters.centroids, scores.data(), scores.size()}});

  for (float& score : scores) {
    if (std::isnan(score)) score = -std::numeric_limits<float>::infinity();  // in an order, whatever the weights are
  }
  std::iota(clusters_.begin(), clusters_.end(), std::size_t{0});
  const auto seen = clusters_.begin() + static_cast<std::ptrdiff_t>(clusters.centroid_intermediate_top_k);
  std::partial_sort(clusters_.begin(), seen, clusters_.end(), [&](std::size_t a, std::size_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  ids_.clear();
  for (auto cluster = clusters_.begin(); cluster != seen; ++cluster) {
    for (const std::int32_t id : std::span(clusters.token_ordering).subspan(*cluster * size, size)) {
      char& taken = taken_[static_cast<std::size_t>(id)];
      if (taken == 0) ids_.push_back(id);  // twice, two threads would write one logit
      taken = 1;
    }
  }
  for (const std::int32_t id : ids_) taken_[static_cast<std::size_t>(id)] = 0;

  linear_.RunRows(model_.weights.lm_head, normed_.data(), ids_, logits.data());
  values_.clear();
  for (const std::int32_t id : ids_) values_.push_back(logits[static_cast<std::size_t>(id)]);
  std::fill(logits.begin(), logits.end(), *std::min_element(values_.begin(), values_.end()) - 1.0f);
  for (std::size_t i = 0; i < ids_.size(); ++i) logits[static_cast<std::size_t>(ids_[i])] = values_[i];
}

}  // namespace gemmule
