// One conversation's state: its KV cache and how far it has come.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/exclusive.h"
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
  // T >= 1; no logits.
  void Read(std::span<const std::int32_t> ids, const Parallel::StopCheck& stop);
  // T >= 1; logits (T, V) of all tokens.
  void Logits(std::span<const std::int32_t> ids, std::span<float> logits, const Parallel::StopCheck& stop);
  // 1 <= wanted <= T; hidden (wanted, D): the last tokens' states behind the final norm, which the head reads.
  void Hidden(std::span<const std::int32_t> ids, std::size_t wanted, std::span<float> hidden,
              const Parallel::StopCheck& stop);
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

  // A decoder without observer that has seen the same tokens and goes on by itself; what it costs: KvCache::Fork.
  std::shared_ptr<Decoder> Fork();

  // What has to be kept of `length` tokens of this model so that a decoder can go on behind them.
  std::vector<KvCache::Extent> Extents(std::size_t length) const { return cache_.Extents(length); }
  // Copies Extents(length())[i] out. Throws ArgumentError where there is no such one; out.size() is its bytes.
  void Export(std::size_t i, std::span<std::byte> out);
  // A decoder that goes on behind `length` tokens, from all of Extents(length) as Export gave them. Throws ContextError
  // where the model's context is shorter, FormatError where states are missing, of another size, or not finite.
  static std::shared_ptr<Decoder> FromStates(std::shared_ptr<const Model> model, std::size_t length,
                                             std::span<const std::span<const std::byte>> states);

  // Bytes of the caches of all `decoders`, blocks that several share counted once.
  static std::size_t CacheBytes(std::span<Decoder* const> decoders);

  // Books the time of the calls to come on `profile` (Forward::Watch), until it is null.
  void Watch(std::shared_ptr<Profile> profile);

  // The hidden state (D,) behind the last token, after the final norm, as its logits were made of it; empty where the
  // last call gave no logits of this token, or of kLogitGroup later ones since.
  std::span<const float> hidden() const;

  std::size_t length() const { return length_; }  // while a call runs, too
  std::size_t cache_bytes();
  const Model& model() const { return *model_; }

  class Pass;  // engine/pass.h

  // Tokens whose logits are held at once: the head's rows serve all of them, and V floats each must fit the memory.
  static constexpr std::size_t kLogitGroup = 16;

 private:
  friend class Batch;
  friend class Drafter;

  // `whose`: words before the message.
  void CheckIds(std::span<const std::int32_t> ids, const std::string& whose = {}) const;
  void Prefill(Scratch& scratch, std::span<const std::int32_t> ids, std::span<float> logits,
               const Parallel::StopCheck& stop);
  void Read(Scratch& scratch, std::span<const std::int32_t> ids, const Parallel::StopCheck& stop);
  // Begins a chunk of its own with the next tokens.
  void Begin(Forward& forward, std::span<const std::int32_t> ids);
  // hidden (count, D): behind the final norm, of tokens length() + first and on, whose logits were just given.
  void KeepHidden(const float* hidden, std::size_t first, std::size_t count);

  std::shared_ptr<const Model> model_;
  std::shared_ptr<Profile> profile_;
  KvCache cache_;
  Scratch scratch_;
  std::atomic<std::size_t> length_{0};
  // Of the last group of tokens whose logits were computed: (hidden_count_, D), behind token hidden_first_ and on.
  Buffer<float> hidden_;
  std::size_t hidden_first_ = 0;
  std::size_t hidden_count_ = 0;
  Exclusive in_use_{"conversation"};
};

}  // namespace gemmule
