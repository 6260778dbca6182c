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
      visits_[*e].push_back({.token = t, .weight = p[*e] / sum * router.per_expert_scale[*e], .row = 0});
    }
  }
  of_token_.assign(tokens, {});
  std::size_t row = 0;
  for (std::vector<Visit>& visits : visits_) {
    for (Visit& visit : visits) {
      visit.row = row++;
      of_token_[visit.token].push_back(visit);
    }
  }
}

void Experts::Run(const LayerWeights& layer, const float* residual, const float* z, std::size_t tokens, float* out) {
  const std::size_t d = config_.hidden_size;
  const std::size_t m = config_.moe_intermediate_size;
  Route(layer.router, residual, tokens);
  if (parallel_.stopped()) return;
  const std::size_t n = tokens * config_.top_k_experts;
  input_.Reserve(n * d);
  gated_.Reserve(n * m);
  up_.Reserve(n * m);
  answer_.Reserve(n * d);

  std::vector<Linear> modules;  // gate, up and down of each expert that is visited
  modules.reserve(3 * visits_.size());
  std::vector<GatedCall> gated;
  std::vector<OwnCall> down;
  for (std::size_t e = 0; e < visits_.size(); ++e) {
    const std::vector<Visit>& visits = visits_[e];
    if (visits.empty()) continue;
    const std::size_t row = visits.front().row;
    const float* x =
        z + visits.front().token * d;  // of one token as it is, so that its experts share what is made of it
    if (visits.size() > 1) {
      for (const Visit& visit : visits) std::copy_n(z + visit.token * d, d, input_.data() + visit.row * d);
      x = input_.data() + row * d;
    }
    for (const auto* of : {&layer.gate_experts, &layer.up_experts, &layer.down_experts}) {
      modules.push_back({.name = {}, .weight = of->Expert(e)});
    }
    const Linear* const own = &modules.back() - 2;
    gated.push_back({own, own + 1, x, visits.size(), up_.data() + row * m, gated_.data() + row * m});
    down.push_back({own + 2, gated_.data() + row * m, visits.size(), answer_.data() + row * d});
  }
  linear_.RunGated(gated);
  linear_.RunEach(down);

  const double cost = 0.5 * static_cast<double>(d * config_.top_k_experts);  // ns
  parallel_.For(tokens, 1, cost, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const std::span<float> sum(out + t * d, d);
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (const Visit& visit : of_token_[t]) {
        const std::span<float> answer(answer_.data() + visit.row * d, d);
        Scale(visit.weight, answer);
        AddTo(answer, sum);
      }
    }
  });
}

}  // namespace gemmule
