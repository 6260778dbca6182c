#include "model/experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "kernels/elementwise.h"
#include "kernels/rms_norm.h"

namespace gemmule {

void Experts::Route(const Router& router, const float* residual, std::size_t tokens) {
  const std::size_t d = config_.hidden_size;
  const std::size_t experts = config_.num_experts;
  const auto root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)));
  routed_.Reserve(tokens * d);
  scores_.Reserve(tokens * experts);
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::span<float> input(routed_.data() + t * d, d);
    RmsNorm({residual + t * d, d}, router.scale, config_.rms_norm_eps, input);
    Scale(root, input);
  }
  linear_.Run(routed_.data(), tokens, {{&router.proj, scores_.data(), experts}});

  visits_.assign(experts, {});
  std::vector<std::size_t> order(experts);
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::span<float> p(scores_.data() + t * experts, experts);
    const float max = *std::max_element(p.begin(), p.end());
    for (float& score : p) score -= max;
    Exp(p, p);
    Scale(1.0f / std::accumulate(p.begin(), p.end(), 0.0f), p);

    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto chosen = order.begin() + static_cast<std::ptrdiff_t>(config_.top_k_experts);
    std::partial_sort(order.begin(), chosen, order.end(),
                      [&](std::size_t a, std::size_t b) { return p[a] != p[b] ? p[a] > p[b] : a < b; });
    float sum = 0.0f;
    for (auto e = order.begin(); e != chosen; ++e) sum += p[*e];
    for (auto e = order.begin(); e != chosen; ++e) {
      visits_[*e].push_back({t, p[*e] / sum * router.per_expert_scale[*e]});
    }
  }
}

void Experts::Run(const LayerWeights& layer, const float* residual, const float* z, std::size_t tokens, float* out) {
  const std::size_t d = config_.hidden_size;
  const std::size_t m = config_.moe_intermediate_size;
  Route(layer.router, residual, tokens);
  std::fill_n(out, tokens * d, 0.0f);
  for (std::size_t e = 0; e < visits_.size() && !parallel_.stopped(); ++e) {
    const std::vector<Visit>& visits = visits_[e];
    if (visits.empty()) continue;
    input_.Reserve(visits.size() * d);
    gated_.Reserve(visits.size() * m);
    up_.Reserve(visits.size() * m);
    answer_.Reserve(visits.size() * d);
    for (std::size_t i = 0; i < visits.size(); ++i) std::copy_n(z + visits[i].token * d, d, input_.data() + i * d);

    const Linear gate{.name = {}, .weight = layer.gate_experts.Expert(e)};
    const Linear up{.name = {}, .weight = layer.up_experts.Expert(e)};
    const Linear down{.name = {}, .weight = layer.down_experts.Expert(e)};
    linear_.RunGated(input_.data(), visits.size(), gate, up, up_.data(), gated_.data());
    linear_.Run(gated_.data(), visits.size(), {{&down, answer_.data(), d}});

    for (std::size_t i = 0; i < visits.size(); ++i) {
      const std::span<float> answer(answer_.data() + i * d, d);
      Scale(visits[i].weight, answer);
      AddTo(answer, {out + visits[i].token * d, d});
    }
  }
}

}  // namespace gemmule
