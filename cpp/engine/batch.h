// One step of several sequences: every weight that is read serves them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/exclusive.h"
#include "base/parallel.h"
#include "engine/decoder.h"
#include "engine/sampler.h"
#include "engine/scratch.h"
#include "model/model.h"

namespace gemmule {

// Sequences are given anew with every call, so that they come and go between steps. What is computed for one of them
// are the bits that its decoder gives alone. Not for two threads at once: a second call while one runs throws
// ArgumentError. Calls may throw what those of Decoder do.
class Batch {
 public:
  static constexpr std::size_t kMost = Forward::kChunk;  // sequences of a step

  explicit Batch(std::shared_ptr<const Model> model);

  // Decoder::Prefill in the batch's memory: the decoder needs none of its own but for its cache.
  void Prefill(Decoder& decoder, std::span<const std::int32_t> ids, std::span<float> logits,
               const Parallel::StopCheck& stop);
  // Decoder::Read, likewise.
  void Read(Decoder& decoder, std::span<const std::int32_t> ids, const Parallel::StopCheck& stop);

  // Appends ids[i] to decoders[i]; logits (n, V) behind them. 1 <= n <= kMost decoders of this model, all different,
  // else ArgumentError. All or none: after an error or a stop no decoder has advanced.
  void Step(std::span<Decoder* const> decoders, std::span<const std::int32_t> ids, std::span<float> logits,
            const Parallel::StopCheck& stop);

  // ids[i] = samplers[i] of logits[i] and histories[i], on the model's threads. All have one length; the samplers are
  // all different. Throws as Sampler::Sample does; the samplers have then gone on or not.
  void Sample(std::span<Sampler* const> samplers, std::span<const std::span<const float>> logits,
              std::span<const std::span<const std::int32_t>> histories, std::span<std::int32_t> ids,
              const Parallel::StopCheck& stop);

  const Model& model() const { return *model_; }

 private:
  void Check(const Decoder& decoder) const;

  std::shared_ptr<const Model> model_;
  Scratch scratch_;
  Exclusive in_use_{"batch"};
};

}  // namespace gemmule
