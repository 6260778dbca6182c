#include "engine/batch.h"

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/pass.h"

namespace gemmule {
namespace {

// What stands among `all` before the i-th, too.
template <class T>
bool IsTwice(std::span<T* const> all, std::size_t i) {
  const auto before = all.first(i);
  return std::find(before.begin(), before.end(), all[i]) != before.end();
}

}  // namespace

Batch::Batch(std::shared_ptr<const Model> model) : model_(std::move(model)), scratch_(*model_) {}

void Batch::Check(const Decoder& decoder) const {
  if (&decoder.model() != model_.get()) {
    throw ArgumentError("a sequence is of another model than the batch",
                        "Step sequences of one loaded model together, those of another in a batch of its own.");
  }
}

void Batch::Prefill(Decoder& decoder, std::span<const std::int32_t> ids, std::span<float> logits,
                    const Parallel::StopCheck& stop) {
  const Exclusive::Use use(in_use_);
  Check(decoder);
  decoder.Prefill(scratch_, ids, logits, stop);
}

void Batch::Read(Decoder& decoder, std::span<const std::int32_t> ids, const Parallel::StopCheck& stop) {
  const Exclusive::Use use(in_use_);
  Check(decoder);
  decoder.Read(scratch_, ids, stop);
}

void Batch::Step(std::span<Decoder* const> decoders, std::span<const std::int32_t> ids, std::span<float> logits,
                 const Parallel::StopCheck& stop) {
  const Exclusive::Use use(in_use_);
  const std::size_t n = decoders.size();
  if (n == 0 || n > kMost || ids.size() != n) {
    throw ArgumentError("a step has " + std::to_string(n) + " sequences and " + std::to_string(ids.size()) +
                            " token ids; want 1 to " + std::to_string(kMost) + " sequences and an id for each",
                        "Step the others by themselves: results do not depend on which sequences step together.");
  }
  std::vector<Segment> segments;
  std::deque<Exclusive::Use> uses;
  for (std::size_t i = 0; i < n; ++i) {
    Decoder& decoder = *decoders[i];
    Check(decoder);
    if (IsTwice(decoders, i)) {
      throw ArgumentError("sequence " + std::to_string(i) + " of a step is in it twice",
                          "Give every sequence once, with its next token; a step appends one to each.");
    }
    uses.emplace_back(decoder.in_use_);
    decoder.CheckIds(ids.subspan(i, 1), "sequence " + std::to_string(i) + " of a step: ");
    decoder.hidden_.Reserve(model_->config.hidden_size);  // now: later a failure would find some overwritten
    segments.push_back({&decoder.cache_, decoder.length_, 1});
  }
  const Parallel::Asking asking(scratch_.parallel, stop);
  scratch_.forward.Begin(segments, ids);
  for (std::size_t i = 0; i < model_->config.layers.size(); ++i) {
    scratch_.forward.Layer(i);
    scratch_.parallel.ThrowIfStopped();
  }
  scratch_.forward.Logits(0, n, logits.data());
  scratch_.parallel.ThrowIfStopped();
  model_->CheckFiles();
  for (std::size_t i = 0; i < n; ++i) {
    decoders[i]->KeepHidden(scratch_.forward.normed() + i * model_->config.hidden_size, 0, 1);
  }
  for (Decoder* decoder : decoders) ++decoder->length_;
}

void Batch::Sample(std::span<Sampler* const> samplers, std::span<const std::span<const float>> logits,
                   std::span<const std::span<const std::int32_t>> histories, std::span<std::int32_t> ids,
                   const Parallel::StopCheck& stop) {
  constexpr double kSampleCost = 1e5;  // ns, with top_k; far more without
  const Exclusive::Use use(in_use_);
  const std::size_t n = samplers.size();
  if (logits.size() != n || histories.size() != n) {
    throw ArgumentError(std::to_string(n) + " samplers have logits of " + std::to_string(logits.size()) +
                        " sequences and histories of " + std::to_string(histories.size()));
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (IsTwice(samplers, i)) throw ArgumentError("sampler " + std::to_string(i) + " is there twice");
  }
  const Parallel::Asking asking(scratch_.parallel, stop);
  scratch_.parallel.For(n, 1, kSampleCost, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) ids[i] = samplers[i]->Sample(logits[i], histories[i]);
  });
  scratch_.parallel.ThrowIfStopped();
}

}  // namespace gemmule
