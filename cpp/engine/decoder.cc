#include "engine/decoder.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "kernels/log_sum_exp.h"

namespace gemmule {
namespace {

// Tokens whose logits are held at once: the head's rows serve all of them, and V floats each must fit the memory.
constexpr std::size_t kLogitGroup = 16;

}  // namespace

class Decoder::Use {
 public:
  Use(Decoder& decoder, const Parallel::StopCheck& stop) : decoder_(decoder) {
    if (decoder_.in_use_.exchange(true)) {
      throw ArgumentError("this conversation is in use by another thread",
                          "Give each thread a conversation of its own; the model may be shared.");
    }
    decoder_.parallel_.Reset(stop);
  }
  ~Use() {
    decoder_.parallel_.Reset({});
    decoder_.in_use_ = false;
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  Decoder& decoder_;
};

Decoder::Decoder(std::shared_ptr<const Model> model)
    : model_(std::move(model)),
      parallel_(*model_->workers),
      cache_(*model_, Forward::kChunk),
      forward_(*model_, cache_, parallel_) {}

void Decoder::CheckIds(std::span<const std::int32_t> ids, std::size_t at_least) const {
  if (ids.size() < at_least) {
    throw ArgumentError("want at least " + std::to_string(at_least) + " token ids, got " + std::to_string(ids.size()));
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= model_->config.vocab_size) {
      throw ArgumentError("token id " + std::to_string(ids[i]) + " at position " + std::to_string(i) +
                              " is outside the vocabulary of " + std::to_string(model_->config.vocab_size),
                          "Encode the text with this checkpoint's own tokenizer.");
    }
  }
  if (ids.size() > model_->context - length_) {
    throw ContextError(std::to_string(ids.size()) + " tokens do not fit: the context holds " +
                           std::to_string(model_->context) + ", and " + std::to_string(length_) + " are in use",
                       "Shorten the text, or load the model with a larger context=.");
  }
}

template <class Visit>
void Decoder::Run(std::span<const std::int32_t> ids, std::size_t wanted, const Visit& visit) {
  const std::size_t first_wanted = ids.size() - wanted;
  const std::size_t first_shared = model_->config.FirstSharedLayer();
  const std::size_t layers = model_->config.layers.size();
  logits_.Reserve(std::min(wanted, kLogitGroup) * model_->config.vocab_size);
  for (std::size_t begin = 0; begin < ids.size(); begin += Forward::kChunk) {
    const std::size_t count = std::min(Forward::kChunk, ids.size() - begin);
    const std::size_t end = begin + count;
    const std::size_t live = end > first_wanted ? std::min(count, end - first_wanted) : 0;
    forward_.Begin(ids.subspan(begin, count), length_);
    for (std::size_t i = 0; i < layers; ++i) {
      // Layers that share keys leave nothing for later tokens: they run only where logits are wanted.
      if (i == first_shared) forward_.KeepLast(live);
      if (i >= first_shared && live == 0) break;
      forward_.Layer(i);
      parallel_.ThrowIfStopped();
    }
    if (first_shared == layers) forward_.KeepLast(live);
    for (std::size_t t = 0; t < live; t += kLogitGroup) {
      const std::size_t group = std::min(kLogitGroup, live - t);
      forward_.Logits(t, group, logits_.data());
      parallel_.ThrowIfStopped();
      visit(end - live + t, logits_.data(), group);
    }
    length_ += count;
  }
}

void Decoder::Prefill(std::span<const std::int32_t> ids, std::span<float> logits, const Parallel::StopCheck& stop) {
  const Use use(*this, stop);
  CheckIds(ids, 1);
  Run(ids, 1, [&](std::size_t, const float* row, std::size_t) { std::copy_n(row, logits.size(), logits.data()); });
}

void Decoder::Logits(std::span<const std::int32_t> ids, std::span<float> logits, const Parallel::StopCheck& stop) {
  const Use use(*this, stop);
  CheckIds(ids, 1);
  const std::size_t v = model_->config.vocab_size;
  Run(ids, ids.size(), [&](std::size_t t, const float* rows, std::size_t count) {
    std::copy_n(rows, count * v, logits.data() + t * v);
  });
}

void Decoder::Score(std::span<const std::int32_t> ids, std::span<double> log_probabilities,
                    const Parallel::StopCheck& stop) {
  const Use use(*this, stop);
  CheckIds(ids, 2);
  const std::size_t v = model_->config.vocab_size;
  Run(ids, ids.size(), [&](std::size_t t, const float* rows, std::size_t count) {
    parallel_.For(count, 1, static_cast<double>(v), [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        if (t + i + 1 == ids.size()) continue;
        const std::span<const float> row(rows + i * v, v);
        log_probabilities[t + i] = row[static_cast<std::size_t>(ids[t + i + 1])] - LogSumExp(row);
      }
    });
    parallel_.ThrowIfStopped();
  });
}

void Decoder::LayerOutputs(std::span<const std::int32_t> ids, std::span<const float> inputs, std::span<float> outputs,
                           const Parallel::StopCheck& stop) {
  const Use use(*this, stop);
  CheckIds(ids, 1);
  const std::size_t d = model_->config.hidden_size;
  for (std::size_t begin = 0; begin < ids.size(); begin += Forward::kChunk) {
    const std::size_t count = std::min(Forward::kChunk, ids.size() - begin);
    forward_.Begin(ids.subspan(begin, count), length_);
    for (std::size_t i = 0; i < model_->config.layers.size(); ++i) {
      const std::size_t at = (i * ids.size() + begin) * d;
      std::copy_n(inputs.data() + at, count * d, forward_.stream().data());
      forward_.Layer(i);
      parallel_.ThrowIfStopped();
      std::copy_n(forward_.stream().data(), count * d, outputs.data() + at);
    }
    length_ += count;
  }
}

bool Decoder::Rewind(std::size_t length) {
  const Use use(*this, {});
  if (length > length_) {
    throw ArgumentError("cannot rewind to " + std::to_string(length) + " tokens: there are " + std::to_string(length_));
  }
  if (length != 0 && !cache_.Holds(length)) return false;
  length_ = length;
  return true;
}

}  // namespace gemmule
