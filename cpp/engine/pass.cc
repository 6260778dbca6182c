#include "engine/pass.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace gemmule {
namespace {

// Tokens whose logits are held at once: the head's rows serve all of them, and V floats each must fit the memory.
constexpr std::size_t kLogitGroup = 16;

}  // namespace

Decoder::Use::Use(Decoder& decoder, const Parallel::StopCheck& stop) : decoder_(decoder) {
  if (decoder_.in_use_.exchange(true)) {
    throw ArgumentError("this conversation is in use by another thread",
                        "Give each thread a conversation of its own; the model may be shared.");
  }
  decoder_.parallel_.Reset(stop);
}

Decoder::Use::~Use() {
  decoder_.parallel_.Reset({});
  decoder_.in_use_ = false;
}

Decoder::Pass::Pass(Decoder& decoder, std::span<const std::int32_t> ids, std::size_t wanted,
                    const Parallel::StopCheck& stop)
    : decoder_(decoder), use_(decoder, stop), ids_(ids), first_wanted_(ids.size() - wanted) {
  decoder_.CheckIds(ids);
  if (wanted == 0 || wanted > ids.size()) {
    throw ArgumentError("logits of " + std::to_string(wanted) + " tokens are wanted, of " + std::to_string(ids.size()));
  }
  decoder_.logits_.Reserve(std::min(wanted, kLogitGroup) * decoder_.model_->config.vocab_size);
}

Decoder::Pass::Rows Decoder::Pass::Next() {
  while (given_ == live_) {
    decoder_.length_ += count_;
    begin_ += count_;
    count_ = std::min(Forward::kChunk, ids_.size() - begin_);
    given_ = live_ = 0;
    if (count_ == 0) return {};
    RunLayers();
  }
  const std::size_t group = std::min(kLogitGroup, live_ - given_);
  decoder_.forward_.Logits(given_, group, decoder_.logits_.data());
  decoder_.parallel_.ThrowIfStopped();
  const std::size_t first = begin_ + count_ - live_ + given_;
  given_ += group;
  return {first, group, decoder_.logits_.data()};
}

void Decoder::Pass::RunLayers() {
  Forward& forward = decoder_.forward_;
  const std::size_t layers = decoder_.model_->config.layers.size();
  const std::size_t first_shared = decoder_.model_->config.FirstSharedLayer();
  const std::size_t end = begin_ + count_;
  live_ = end > first_wanted_ ? std::min(count_, end - first_wanted_) : 0;
  forward.Begin(ids_.subspan(begin_, count_), decoder_.length_);
  for (std::size_t i = 0; i < layers; ++i) {
    // Layers that share keys leave nothing for later tokens: they run only where logits are wanted.
    if (i == first_shared) forward.KeepLast(live_);
    if (i >= first_shared && live_ == 0) break;
    forward.Layer(i);
    decoder_.parallel_.ThrowIfStopped();
  }
  if (first_shared == layers) forward.KeepLast(live_);
}

}  // namespace gemmule
