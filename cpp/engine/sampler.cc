#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "kernels/largest.h"

namespace gemmule {
namespace {

void CheckRange(const char* name, double value, bool ok, const char* range) {
  if (!ok) throw ArgumentError(std::string(name) + " is " + std::to_string(value) + "; want " + range);
}

constexpr std::size_t kSortedAtOnce = 1024;  // candidates, where top_k does not bound them

// Best first, lowest id on ties, so that the order never depends on the sorting algorithm.
constexpr auto kBetter = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

}  // namespace

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
  const SamplerOptions& o = options_;
  CheckRange("temperature", o.temperature, o.temperature >= 0 && std::isfinite(o.temperature), "a finite number >= 0");
  CheckRange("top_p", o.top_p, o.top_p > 0 && o.top_p <= 1, "a number in (0, 1]");
  CheckRange("min_p", o.min_p, o.min_p >= 0 && o.min_p <= 1, "a number in [0, 1]");
  CheckRange("repetition_penalty", o.repetition_penalty,
             o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "a finite number > 0");
}

void Sampler::FindCandidates(std::span<const float> logits, std::size_t k) {
  constexpr std::size_t kBlock = 64;                   // logits: 4096 blocks of Gemma's
  float least = std::numeric_limits<float>::lowest();  // a logit of -infinity forbids its token
  largest_.clear();
  if (k != 0 && k <= logits.size() / kBlock) {
    // k blocks have a logit that is not below the k-th largest of their largest ones: the k best are not, either.
    largest_.resize((logits.size() + kBlock - 1) / kBlock);
    LargestOfBlocks(logits, kBlock, largest_);
    candidates_.clear();
    for (const float largest : largest_) candidates_.push_back({largest, 0, 0.0});
    const auto kth = candidates_.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(candidates_.begin(), kth, candidates_.end(), kBetter);
    least = std::max(least, kth->logit);
  }
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (i % kBlock == 0 && !largest_.empty() && largest_[i / kBlock] < least) {
      i += kBlock - 1;
    } else if (logits[i] >= least) {
      candidates_.push_back({logits[i], static_cast<std::int32_t>(i), 0.0});
    }
  }
  if (k == 0) return;
  if (k < candidates_.size()) {
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(k);
    std::nth_element(candidates_.begin(), end - 1, candidates_.end(), kBetter);
    candidates_.erase(end, candidates_.end());
  }
  std::sort(candidates_.begin(), candidates_.end(), kBetter);
}

std::int32_t Sampler::Sample(std::span<const float> logits, std::span<const std::int32_t> history) {
  const Exclusive::Use use(in_use_);
  float largest = Largest(logits);
  if (!std::isfinite(largest)) {
    throw ArgumentError(
        "the logits hold no largest finite value (found " + std::to_string(largest) + ")",
        "Either logit_bias, logits_processors and the grammar leave no token, or the checkpoint is damaged: check "
        "its files.");
  }
  if (options_.temperature == 0.0) {
    return static_cast<std::int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
  }

  if (options_.repetition_penalty != 1.0) {
    penalized_.assign(logits.begin(), logits.end());
    // A finite logit stays finite, whatever the penalty: an infinite one would be all there is to draw, and 0 / 0 none.
    using Limits = std::numeric_limits<float>;
    const auto penalty =
        static_cast<float>(std::clamp<double>(options_.repetition_penalty, Limits::min(), Limits::max()));
    for (const std::int32_t id : history) {
      const auto i = static_cast<std::size_t>(id);
      if (id < 0 || i >= logits.size() || !std::isfinite(logits[i])) continue;
      const float penalized = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
      penalized_[i] = std::clamp(penalized, Limits::lowest(), Limits::max());  // once, however often it occurs
    }
    logits = penalized_;
    largest = Largest(logits);
  }

  FindCandidates(logits, options_.top_k);
  const double best = largest;
  double total = 0.0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = std::exp((candidate.logit - best) / options_.temperature);
    total += candidate.weight;
  }

  // top_p keeps the fewest candidates that reach it together; min_p those with at least that share of the best one's
  // weight. They are sorted as far as that takes.
  std::size_t sorted = options_.top_k != 0 ? candidates_.size() : 0;
  const auto sort_up_to = [&](std::size_t count) {
    if (count < sorted) return;
    const std::size_t next = std::min(candidates_.size(), std::max<std::size_t>(kSortedAtOnce, 8 * sorted));
    const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(next);
    if (end != candidates_.end()) std::nth_element(begin, end - 1, candidates_.end(), kBetter);
    std::sort(begin, end, kBetter);
    sorted = next;
  };
  double kept = 0.0;
  std::size_t count = 0;
  while (count < candidates_.size()) {
    if (count > 0 && kept >= options_.top_p * total) break;
    sort_up_to(count);
    if (count > 0 && candidates_[count].weight < options_.min_p) break;
    kept += candidates_[count++].weight;
  }

  // 53 random bits: uniform in [0, 1).
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    left -= candidates_[i].weight;
    if (left < 0) return candidates_[i].id;
  }
  return candidates_[count - 1].id;
}

}  // namespace gemmule
