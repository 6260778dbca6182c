// One conversation's state: its KV cache and how far it has come.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/parallel.h"
#include "engine/scratch.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace gemmule {

// Tokens whose keys and values are complete stay in the cache when a call is stopped. Not for two threads at once: a
// second call while one runs throws ArgumentError.
class Decoder {
 public:
  // `observer`, which must outlive it, sees what goes through the layers; null: there is none.
  explicit Decoder(std::shared_ptr<const Model> model, Observer* observer = nullptr);

  // Each call appends `ids` and may throw ArgumentError (an id outside [0, V), too few ids), ContextError,
  // ResourceError and, when `stop` says so, Stopped.

  // T >= 1; logits (V,) of the last token.
  void Prefill(std::span<const std::int32_t> ids, std::span<float> logits, const Parallel::StopCheck& stop);
  // T >= 1; logits (T, V) of all tokens.
  void Logits(std::span<const std::int32_t> ids, std::span<float> logits, const Parallel::StopCheck& stop);
  // 1 <= first <= T; log_probabilities (T - first,), nats: of ids[first], ... each after all tokens before it.
  void Score(std::span<const std::int32_t> ids, std::size_t first, std::span<double> log_probabilities,
             const Parallel::StopCheck& stop);
  // T >= 1; every token through every layer, for an observer.
  void RunLayers(std::span<const std::int32_t> ids, const Parallel::StopCheck& stop);
  // Each layer on its own input: inputs and outputs (L, T, D). For tests, so that layers' errors do not add up.
  void LayerOutputs(std::span<const std::int32_t> ids, std::span<const float> inputs, std::span<float> outputs,
                    const Parallel::StopCheck& stop);

  // Forgets all but the first `length` tokens. False, and nothing changed, where a sliding layer no longer has the keys
  // that the next token needs.
  bool Rewind(std::size_t length);

  // Books the time of the calls to come on `profile` (Forward::Watch), until it is null.
  void Watch(std::shared_ptr<Profile> profile);

  std::size_t length() const { return length_; }
  std::size_t cache_bytes() const { return cache_.bytes(); }
  const Model& model() const { return *model_; }

  class Pass;  // engine/pass.h

 private:
  friend class Batch;
  class Use;

  // `whose`: words before the message.
  void CheckIds(std::span<const std::int32_t> ids, const std::string& whose = {}) const;
  void Prefill(Scratch& scratch, std::span<const std::int32_t> ids, std::span<float> logits,
               const Parallel::StopCheck& stop);
  // Begins a chunk of its own with the next tokens.
  void Begin(Forward& forward, std::span<const std::int32_t> ids);

  std::shared_ptr<const Model> model_;
  std::shared_ptr<Profile> profile_;
  KvCache cache_;
  Scratch scratch_;
  std::size_t length_ = 0;
  std::atomic<bool> in_use_{false};
};

}  // namespace gemmule
