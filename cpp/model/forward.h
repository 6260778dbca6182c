// The forward pass over one chunk of tokens: ids to hidden states to logits, one layer after another. The tokens may be
// of several sequences; all share one reading of the weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/parallel.h"
#include "base/profile.h"
#include "model/attention.h"
#include "model/experts.h"
#include "model/kv_cache.h"
#include "model/linear.h"
#include "model/model.h"
#include "model/observer.h"
#include "model/operation.h"
#include "model/rope_table.h"

namespace gemmule {

// Tokens of one sequence in a row.
struct Segment {
  KvCache* cache;
  std::size_t position;  // of the first token
  std::size_t tokens;
};

// Holds the scratch memory of a chunk, whose tokens are those of its segments end to end. The bits of a token's results
// depend on no other sequence. After a stop (Parallel::stopped) the calls return early and what they computed is void.
class Forward {
 public:
  static constexpr std::size_t kChunk = 64;  // tokens at most: unpacking a weight row serves all of them

  // All must outlive it. `observer` sees what goes through the layers; null: there is none.
  Forward(const Model& model, Parallel& parallel, Observer* observer = nullptr);

  // Books the time of the calls to come on ProfilePlace(layer, operation) of `profile`, which must outlive them, and
  // have places for layers 0 ... L; null: nowhere.
  void Watch(Profile* profile);

  // Begins a chunk of 1 <= T <= kChunk tokens: embeddings and per-layer inputs. ids (T,) are in [0, V). The caches are
  // all different, made for chunks of kChunk, and must outlive the chunk.
  void Begin(std::span<const Segment> segments, std::span<const std::int32_t> ids);

  // Runs layer i on the stream; its keys and values go into the caches. Layers run in order.
  void Layer(std::size_t i);

  // Leaves only the last `count` tokens of the chunk in the stream, whichever segments they are of. Only once the
  // layers to come read no keys of the others' making: from Config::FirstSharedLayer() on, or after the last layer.
  void KeepLast(std::size_t count);

  // Tokens [first, first + count) of the stream behind the final norm, which the head reads: (count, D).
  void Hidden(std::size_t first, std::size_t count, float* hidden);

  // Logits of tokens [first, first + count) of the stream, after the softcap: (count, V).
  void Logits(std::size_t first, std::size_t count, float* logits);

  // What those logits were made of: the stream after the final norm, (count, D), until the next call of anything.
  const float* normed() const { return normed_.data(); }

  // The residual stream, (T, D).
  std::span<float> stream() { return {x_.data() + skipped_ * config_.hidden_size, tokens_ * config_.hidden_size}; }

 private:
  void PerLayerInputs(std::span<const std::int32_t> ids);
  void Attention(std::size_t i);
  void Mlp(std::size_t i);
  // branch_ = norm(branch_) + norm(experts(stream)): the dense MLP and the experts side by side.
  void AddExperts(std::size_t i);
  void PerLayerInput(std::size_t i);

  // What was done since the operation before was this one.
  void Done(Operation operation) {
    if (profile_ != nullptr) profile_->Book(ProfilePlace(layer_, operation));
  }
  // body(t) for every token of the stream.
  template <class Body>
  void ForTokens(const Body& body);
  // normed_ = norm(stream), with the layer's weight.
  void NormInto(std::span<const float> weight);
  // stream += norm(branch), branch (T, D).
  void AddNormed(const float* branch, std::span<const float> weight);
  std::span<float> Token(std::size_t t) { return stream().subspan(t * config_.hidden_size, config_.hidden_size); }
  RopeTable& Rope(const LayerConfig& layer);

  const Model& model_;
  const Config& config_;
  Parallel& parallel_;
  Observer* observer_;
  LinearRunner linear_;
  AttentionRunner attention_;
  Experts experts_;
  std::vector<RopeTable> ropes_;

  Profile* profile_ = nullptr;
  std::size_t layer_ = 0;  // the one that runs; L: none

  std::vector<Segment> segments_;             // what is left of them
  std::vector<std::size_t> positions_;        // of each of the chunk's tokens
  std::vector<KvCache*> caches_;              // of each of the chunk's tokens
  std::vector<AttentionSegment> attentions_;  // the segments as a layer's attention wants them
  std::size_t skipped_ = 0;                   // tokens at the chunk's start that KeepLast dropped
  std::size_t tokens_ = 0;                    // T: tokens in the stream

  Buffer<float> x_;               // (T, D) the residual stream
  Buffer<float> normed_;          // (T, D)
  Buffer<float> branch_;          // (T, D) what is added to the stream
  Buffer<float> q_;               // (T, H E), then the attention's result
  Buffer<float> k_;               // (T, G E)
  Buffer<float> v_;               // (T, G E)
  Buffer<float> expert_;          // (T, D) the experts' part of the branch
  Buffer<float> gated_;           // (T, F)
  Buffer<float> up_;              // (T, F)
  Buffer<float> per_layer_;       // (T, L P)
  Buffer<float> per_layer_rows_;  // (T, L P) of the per-layer embedding
  Buffer<float> gate_;            // (T, P)
};

}  // namespace gemmule
