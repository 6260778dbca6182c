#include "engine/drafter.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "kernels/largest.h"

namespace gemmule {
namespace {

// The lowest id of the largest logit.
std::int32_t Likeliest(std::span<const float> logits) {
  const auto place = std::find(logits.begin(), logits.end(), Largest(logits));
  if (place == logits.end()) {
    throw FormatError("the drafter's logits are no numbers", {}, "Download the drafter again.");
  }
  return static_cast<std::int32_t>(place - logits.begin());
}

}  // namespace

// Of the drafter and of a sequence, for one call.
class Drafter::Use {
 public:
  Use(Drafter& drafter, Decoder& decoder, const Parallel::StopCheck& stop)
      : drafter_(drafter.in_use_), decoder_(decoder.in_use_), asking_(drafter.parallel_, stop) {
    if (&decoder.model() != drafter.target_.get()) {
      throw ArgumentError("the sequence is of another model than the drafter's",
                          "Load a drafter for each model, and use it for sequences of that.");
    }
    if (decoder.hidden().empty()) {
      throw ArgumentError("nothing can be drafted: the last call gave no logits of the last token");
    }
  }

 private:
  const Exclusive::Use drafter_;
  const Exclusive::Use decoder_;
  const Parallel::Asking asking_;
};

Drafter::Drafter(std::shared_ptr<const Model> target, std::shared_ptr<const DraftModel> model)
    : target_(std::move(target)),
      model_(std::move(model)),
      parallel_(*target_->workers),
      forward_(*model_, parallel_),
      input_(2 * target_->config.hidden_size),
      logits_(target_->config.vocab_size) {}

void Drafter::Draft(Decoder& decoder, std::int32_t id, std::span<std::int32_t> drafts,
                    const Parallel::StopCheck& stop) {
  const Use use(*this, decoder, stop);
  decoder.CheckIds({&id, 1});
  const std::size_t d = target_->config.hidden_size;
  const std::span<float> embedding(input_.data(), d);
  const std::span<float> vector(input_.data() + d, d);
  const std::span<float> logits(logits_.data(), logits_.size());
  std::ranges::copy(decoder.hidden(), vector.begin());
  for (std::int32_t& draft : drafts) {
    target_->weights.embed_tokens.Read(target_->config.EmbeddingRow(id), embedding);
    forward_.Step(decoder.cache_, decoder.length_, {input_.data(), 2 * d}, logits, vector);
    parallel_.ThrowIfStopped();
    id = draft = Likeliest(logits);
  }
}

void Drafter::Step(Decoder& decoder, std::span<const float> input, std::span<float> logits, std::span<float> vector,
                   const Parallel::StopCheck& stop) {
  const Use use(*this, decoder, stop);
  forward_.Step(decoder.cache_, decoder.length_, input, logits, vector);
  parallel_.ThrowIfStopped();
}

}  // namespace gemmule
