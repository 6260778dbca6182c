#include "engine/decoder.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "engine/pass.h"
#include "kernels/log_sum_exp.h"

namespace gemmule {
Decoder::Decoder(std::shared_ptr<const Model> model, Observer* observer)
    : model_(std::move(model)), cache_(*model_, Forward::kChunk), scratch_(*model_, observer) {}

void Decoder::CheckIds(std::span<const std::int32_t> ids, const std::string& whose) const {
  if (ids.empty()) throw ArgumentError(whose + "want at least 1 token id, got 0");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= model_->config.vocab_size) {
      throw ArgumentError(whose + "token id " + std::to_string(ids[i]) + " at position " + std::to_string(i) +
                              " is outside the vocabulary of " + std::to_string(model_->config.vocab_size),
                          "Encode the text with this checkpoint's own tokenizer.");
    }
  }
  if (ids.size() > model_->context - length_) {
    throw ContextError(whose + std::to_string(ids.size()) + " tokens do not fit: the context holds " +
                           std::to_string(model_->context) + ", and " + std::to_string(length_) + " are in use",
                       "Shorten the text, or load the model with a larger context=.");
  }
}

void Decoder::Begin(Forward& forward, std::span<const std::int32_t> ids) {
  hidden_count_ = 0;
  const Segment next{&cache_, length_, ids.size()};
  forward.Begin({&next, 1}, ids);
}

void Decoder::KeepHidden(const float* hidden, std::size_t first, std::size_t count) {
  const std::size_t size = count * model_->config.hidden_size;
  hidden_.Reserve(size);
  std::copy_n(hidden, size, hidden_.data());
  hidden_first_ = length_ + first;
  hidden_count_ = count;
}

void Decoder::Prefill(std::span<const std::int32_t> ids, std::span<float> logits, const Parallel::StopCheck& stop) {
  Prefill(scratch_, ids, logits, stop);
}

void Decoder::Prefill(Scratch& scratch, std::span<const std::int32_t> ids, std::span<float> logits,
                      const Parallel::StopCheck& stop) {
  Pass pass(*this, scratch, ids, 1, stop);
  for (auto rows = pass.Next(); rows.count != 0; rows = pass.Next()) {
    std::copy_n(rows.logits, logits.size(), logits.data());
  }
}

void Decoder::Read(std::span<const std::int32_t> ids, const Parallel::StopCheck& stop) { Read(scratch_, ids, stop); }

void Decoder::Read(Scratch& scratch, std::span<const std::int32_t> ids, const Parallel::StopCheck& stop) {
  Pass(*this, scratch, ids, stop).Next();
}

void Decoder::Logits(std::span<const std::int32_t> ids, std::span<float> logits, const Parallel::StopCheck& stop) {
  const std::size_t v = model_->config.vocab_size;
  Pass pass(*this, ids, ids.size(), stop);
  for (auto rows = pass.Next(); rows.count != 0; rows = pass.Next()) {
    std::copy_n(rows.logits, rows.count * v, logits.data() + rows.first * v);
  }
}

void Decoder::Hidden(std::span<const std::int32_t> ids, std::size_t wanted, std::span<float> hidden,
                     const Parallel::StopCheck& stop) {
  Pass pass(*this, ids, wanted, stop);
  while (pass.NextHidden(hidden.data()).count != 0) {
  }
}

void Decoder::Score(std::span<const std::int32_t> ids, std::size_t first, std::span<double> log_probabilities,
                    const Parallel::StopCheck& stop) {
  const std::size_t v = model_->config.vocab_size;
  Pass pass(*this, ids, ids.size() - first + 1, stop);
  for (auto rows = pass.Next(); rows.count != 0; rows = pass.Next()) {
    pass.For(rows.count, static_cast<double>(v), [&](std::size_t i) {
      const std::size_t next = rows.first + i + 1;
      if (next == ids.size()) return;
      const std::span<const float> row(rows.logits + i * v, v);
      log_probabilities[next - first] = row[static_cast<std::size_t>(ids[next])] - LogSumExp(row);
    });
  }
}

void Decoder::RunLayers(std::span<const std::int32_t> ids, const Parallel::StopCheck& stop) {
  const Exclusive::Use use(in_use_);
  const Parallel::Asking asking(scratch_.parallel, stop);
  CheckIds(ids);
  for (std::size_t begin = 0; begin < ids.size(); begin += Forward::kChunk) {
    const std::size_t count = std::min(Forward::kChunk, ids.size() - begin);
    Begin(scratch_.forward, ids.subspan(begin, count));
    for (std::size_t i = 0; i < model_->config.layers.size(); ++i) {
      scratch_.forward.Layer(i);
      scratch_.parallel.ThrowIfStopped();
    }
    model_->CheckFiles();
    length_ += count;
  }
}

void Decoder::LayerOutputs(std::span<const std::int32_t> ids, std::span<const float> inputs, std::span<float> outputs,
                           const Parallel::StopCheck& stop) {
  const Exclusive::Use use(in_use_);
  const Parallel::Asking asking(scratch_.parallel, stop);
  CheckIds(ids);
  const std::size_t d = model_->config.hidden_size;
  for (std::size_t begin = 0; begin < ids.size(); begin += Forward::kChunk) {
    const std::size_t count = std::min(Forward::kChunk, ids.size() - begin);
    Begin(scratch_.forward, ids.subspan(begin, count));
    for (std::size_t i = 0; i < model_->config.layers.size(); ++i) {
      const std::size_t at = (i * ids.size() + begin) * d;
      std::copy_n(inputs.data() + at, count * d, scratch_.forward.stream().data());
      scratch_.forward.Layer(i);
      scratch_.parallel.ThrowIfStopped();
      std::copy_n(scratch_.forward.stream().data(), count * d, outputs.data() + at);
    }
    model_->CheckFiles();
    length_ += count;
  }
}

void Decoder::Watch(std::shared_ptr<Profile> profile) {
  const Exclusive::Use use(in_use_);
  profile_ = std::move(profile);
  scratch_.forward.Watch(profile_.get());
}

std::span<const float> Decoder::hidden() const {
  const std::size_t d = model_->config.hidden_size;
  const std::size_t last = length_ - 1;
  if (length_ == 0 || last < hidden_first_ || last - hidden_first_ >= hidden_count_) return {};
  return {hidden_.data() + (last - hidden_first_) * d, d};
}

std::size_t Decoder::cache_bytes() {
  const Exclusive::Use use(in_use_);
  return cache_.bytes();
}

bool Decoder::Rewind(std::size_t length) {
  const Exclusive::Use use(in_use_);
  if (length > length_) {
    throw ArgumentError("cannot rewind to " + std::to_string(length) + " tokens: there are " + std::to_string(length_));
  }
  if (length != 0 && !cache_.Holds(length)) return false;
  length_ = length;
  hidden_count_ = std::min(hidden_count_, length - std::min(length, hidden_first_));
  return true;
}

std::shared_ptr<Decoder> Decoder::Fork() {
  const Exclusive::Use use(in_use_);
  auto fork = std::make_shared<Decoder>(model_);
  fork->cache_ = cache_.Fork();
  fork->length_ = length();
  return fork;
}

void Decoder::Export(std::size_t i, std::span<std::byte> out) {
  const Exclusive::Use use(in_use_);
  const std::vector<KvCache::Extent> extents = Extents(length_);
  if (i >= extents.size() || extents[i].bytes != out.size()) {
    throw ArgumentError("state " + std::to_string(i) + " in " + std::to_string(out.size()) +
                        " bytes: this decoder has " + std::to_string(extents.size()) + " states of other sizes");
  }
  cache_.Export(extents[i], out);
}

std::shared_ptr<Decoder> Decoder::FromStates(std::shared_ptr<const Model> model, std::size_t length,
                                             std::span<const std::span<const std::byte>> states) {
  if (length > model->context) {
    throw ContextError("a state of " + std::to_string(length) + " tokens does not fit: the context holds " +
                           std::to_string(model->context),
                       "Load the model with a larger context=, up to the checkpoint's own.");
  }
  auto decoder = std::make_shared<Decoder>(std::move(model));
  decoder->cache_.Import(length, states);
  decoder->length_ = length;
  return decoder;
}

std::size_t Decoder::CacheBytes(std::span<Decoder* const> decoders) {
  std::unordered_set<const std::byte*> counted;
  std::size_t total = 0;
  for (Decoder* decoder : decoders) {
    const Exclusive::Use use(decoder->in_use_);
    total += decoder->cache_.CountBytes(counted);
  }
  return total;
}

}  // namespace gemmule
