#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"

namespace gemmule {
namespace {

void CheckRange(const char* name, double value, bool ok, const char* range) {
  if (!ok) throw ArgumentError(std::string(name) + " is " + std::to_string(value) + "; want " + range);
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
  const SamplerOptions& o = options_;
  CheckRange("temperature", o.temperature, o.temperature >= 0 && std::isfinite(o.temperature), "a finite number >= 0");
  CheckRange("top_p", o.top_p, o.top_p > 0 && o.top_p <= 1, "a number in (0, 1]");
  CheckRange("min_p", o.min_p, o.min_p >= 0 && o.min_p <= 1, "a number in [0, 1]");
  CheckRange("repetition_penalty", o.repetition_penalty,
             o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "a finite number > 0");
}

std::int32_t Sampler::Sample(std::span<const float> logits, std::span<const std::int32_t> history) {
  const auto largest = std::max_element(logits.begin(), logits.end());  // the first of equals; a NaN never wins
  if (!std::isfinite(*largest)) {
    throw ArgumentError("the logits hold no largest finite value (found " + std::to_string(*largest) + ")",
                        "The checkpoint is damaged or its activations overflow; check its files.");
  }
  if (options_.temperature == 0.0) return static_cast<std::int32_t>(largest - logits.begin());

  if (options_.repetition_penalty != 1.0) {
    penalized_.assign(logits.begin(), logits.end());
    const auto penalty = static_cast<float>(options_.repetition_penalty);
    for (const std::int32_t id : history) {
      const auto i = static_cast<std::size_t>(id);
      if (id < 0 || i >= logits.size()) continue;
      penalized_[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;  // once, however often it occurs
    }
    logits = penalized_;
  }

  // Best first, lowest id on ties, so that the order never depends on the sorting algorithm.
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isnan(logits[i])) candidates_.push_back({logits[i], static_cast<std::int32_t>(i)});
  }
  if (options_.top_k != 0 && options_.top_k < candidates_.size()) {
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(options_.top_k);
    std::nth_element(candidates_.begin(), end - 1, candidates_.end(), better);
    candidates_.erase(end, candidates_.end());
  }
  std::sort(candidates_.begin(), candidates_.end(), better);

  // Weights relative to the best candidate's: p = weight / total.
  const double best = candidates_.front().logit;
  double total = 0.0;
  for (Candidate& candidate : candidates_) {
    candidate.logit = std::exp((candidate.logit - best) / options_.temperature);
    total += candidate.logit;
  }
  // top_p keeps the fewest candidates that reach it together; min_p those with at least that share of the best one's.
  double kept = 0.0;
  std::size_t count = 0;
  while (count < candidates_.size()) {
    if (count > 0 && (kept >= options_.top_p * total || candidates_[count].logit < options_.min_p)) break;
    kept += candidates_[count++].logit;
  }

  // 53 random bits: uniform in [0, 1).
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    left -= candidates_[i].logit;
    if (left < 0) return candidates_[i].id;
  }
  return candidates_[count - 1].id;
}

}  // namespace gemmule
