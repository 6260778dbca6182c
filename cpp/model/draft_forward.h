// The forward pass of a drafter: one token, whose keys and values nobody keeps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/parallel.h"
#include "model/attention.h"
#include "model/draft_model.h"
#include "model/kv_cache.h"
#include "model/linear.h"
#include "model/rope_table.h"

namespace gemmule {

class DraftForward {
 public:
  // Both must outlive it.
  DraftForward(const DraftModel& model, Parallel& parallel);

  // One step of a draft, for the token at `position` >= 1, behind the keys [0, position) of the target's `cache`. After
  // a stop (Parallel::stopped) the results are void.
  //
  //   input   (2 Dt,) the target's scaled embedding of the token; then what the target says behind the token before
  //           it: its hidden state after the final norm, or the vector of the step before
  //   logits  (V,) no softcap. Tokens outside the clusters looked at have 1 less than the lowest of the others
  //   vector  (Dt,) for the next step, which has the same position; may be a part of the input
  //
  // Source: transformers models/gemma4_assistant.
  void Step(const KvCache& cache, std::size_t position, std::span<const float> input, std::span<float> logits,
            std::span<float> vector);

 private:
  void Attention(std::size_t i, const KvCache& cache, std::size_t position);
  void Mlp(std::size_t i);
  void Head(std::span<float> logits);
  void ClusterLogits(const Clusters& clusters, std::span<float> logits);

  // normed_ = norm(x_)
  void NormInto(std::span<const float> weight);
  // x_ += norm(branch_)
  void AddNormed(std::span<const float> weight);

  const DraftModel& model_;
  const Config& config_;
  LinearRunner linear_;
  AttentionRunner attention_;
  std::vector<RopeTable> ropes_;  // of each layer

  Buffer<float> x_;                    // (D,) the residual stream
  Buffer<float> normed_;               // (D,)
  Buffer<float> branch_;               // (D,) what is added to the stream
  Buffer<float> q_;                    // (H E,), then the attention's result
  Buffer<float> gated_;                // (F,)
  Buffer<float> up_;                   // (F,)
  Buffer<float> scores_;               // (C,) of the clusters
  std::vector<std::size_t> clusters_;  // from the likeliest on
  std::vector<std::int32_t> ids_;      // of the tokens in the clusters looked at
  std::vector<char> taken_;            // (V,) 1 while an id is among them
  std::vector<float> values_;          // their logits
};

}  // namespace gemmule
