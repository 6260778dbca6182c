// Guesses what comes next in a sequence, so that the model has only to check it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/buffer.h"
#include "base/exclusive.h"
#include "base/parallel.h"
#include "engine/decoder.h"
#include "model/draft_forward.h"
#include "model/draft_model.h"
#include "model/model.h"

namespace gemmule {

// Keeps nothing of a sequence, so that one may serve many. Not for two threads at once: a second call while one runs
// throws ArgumentError.
class Drafter {
 public:
  // The drafter was loaded for this target.
  Drafter(std::shared_ptr<const Model> target, std::shared_ptr<const DraftModel> model);

  // The likeliest tokens, one after the other, behind `id`, which is the next that `decoder` will be given. Throws
  // ArgumentError for an id outside [0, V), for the sequence of another model and where Decoder::hidden is empty;
  // FormatError where the drafter's weights give no number; Stopped.
  void Draft(Decoder& decoder, std::int32_t id, std::span<std::int32_t> drafts, const Parallel::StopCheck& stop);

  // One step on any input (2 D,), with logits (V,) and the vector (D,) for the next: see DraftForward. For tests.
  void Step(Decoder& decoder, std::span<const float> input, std::span<float> logits, std::span<float> vector,
            const Parallel::StopCheck& stop);

  const Model& target() const { return *target_; }

 private:
  class Use;

  std::shared_ptr<const Model> target_;
  std::shared_ptr<const DraftModel> model_;
  Parallel parallel_;
  DraftForward forward_;
  Buffer<float> input_;   // (2 D,), D the target's
  Buffer<float> logits_;  // (V,)
  Exclusive in_use_{"drafter"};
};

}  // namespace gemmule
