#include "engine/pass.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace gemmule {

Decoder::Pass::Pass(Decoder& decoder, Scratch& scratch, std::span<const std::int32_t> ids,
                    const Parallel::StopCheck& stop)
    : decoder_(decoder),
      scratch_(scratch),
      use_(decoder.in_use_),
      asking_(scratch.parallel, stop),
      ids_(ids),
      first_wanted_(ids.size()) {
  decoder_.CheckIds(ids);
}

Decoder::Pass::Pass(Decoder& decoder, Scratch& scratch, std::span<const std::int32_t> ids, std::size_t wanted,
                    const Parallel::StopCheck& stop)
    : Pass(decoder, scratch, ids, stop) {
  first_wanted_ -= wanted;
  if (wanted == 0 || wanted > ids.size()) {
    throw ArgumentError("results of " + std::to_string(wanted) + " tokens are wanted, of " +
                        std::to_string(ids.size()));
  }
}

bool Decoder::Pass::Advance() {
  while (given_ == live_) {
    decoder_.length_ += count_;
    begin_ += count_;
    count_ = std::min(Forward::kChunk, ids_.size() - begin_);
    given_ = live_ = 0;
    if (count_ == 0) return false;
    RunLayers();
  }
  return true;
}

std::size_t Decoder::Pass::Take(std::size_t count) {
  const std::size_t first = begin_ + count_ - live_ + given_;
  given_ += count;
  return first;
}

Decoder::Pass::Rows Decoder::Pass::Next() {
  if (!Advance()) return {};
  const std::size_t wanted = ids_.size() - first_wanted_;
  scratch_.logits.Reserve(std::min(wanted, kLogitGroup) * decoder_.model_->config.vocab_size);
  const std::size_t group = std::min(kLogitGroup, live_ - given_);
  scratch_.forward.Logits(given_, group, scratch_.logits.data());
  scratch_.parallel.ThrowIfStopped();
  decoder_.model_->CheckFiles();
  const std::size_t first = Take(group);
  decoder_.KeepHidden(scratch_.forward.normed(), first - begin_, group);
  return {first, group, scratch_.logits.data()};
}

Decoder::Pass::Rows Decoder::Pass::NextHidden(float* hidden) {
  if (!Advance()) return {};
  decoder_.model_->CheckFiles();
  const std::size_t first = Take(live_);
  scratch_.forward.Hidden(0, live_, hidden + (first - first_wanted_) * decoder_.model_->config.hidden_size);
  return {first, live_};
}

void Decoder::Pass::RunLayers() {
  Forward& forward = scratch_.forward;
  const std::size_t layers = decoder_.model_->config.layers.size();
  const std::size_t first_shared = decoder_.model_->config.FirstSharedLayer();
  const std::size_t end = begin_ + count_;
  live_ = end > first_wanted_ ? std::min(count_, end - first_wanted_) : 0;
  decoder_.Begin(forward, ids_.subspan(begin_, count_));
  for (std::size_t i = 0; i < layers; ++i) {
    // Layers that share keys leave nothing for later tokens: they run only where logits are wanted.
    if (i == first_shared) forward.KeepLast(live_);
    if (i >= first_shared && live_ == 0) break;
    forward.Layer(i);
    scratch_.parallel.ThrowIfStopped();
  }
  if (live_ == 0) decoder_.model_->CheckFiles();  // no rows will be asked for, with which it is done
  if (first_shared == layers) forward.KeepLast(live_);
}

}  // namespace gemmule
