// How a call of a decoder goes through its tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/exclusive.h"
#include "base/parallel.h"
#include "engine/decoder.h"

namespace gemmule {

// Appends tokens chunk by chunk, as their logits are asked for. Passes of several decoders go through the same tokens
// side by side: each Next() gives as many rows as the others'.
class Decoder::Pass {
 public:
  // What comes out of a few tokens in a row.
  struct Rows {
    std::size_t first = 0;          // place of the first token among all of the call
    std::size_t count = 0;          // 0: there are no more
    const float* logits = nullptr;  // (count, V), after the softcap; until the next ones are asked for
  };

  // The last `wanted` of the T ids need rows, 1 <= wanted <= T. Throws as the calls of Decoder do, Next() as well.
  // `scratch` may be another's, which must outlive it: no other call may use that meanwhile.
  Pass(Decoder& decoder, Scratch& scratch, std::span<const std::int32_t> ids, std::size_t wanted,
       const Parallel::StopCheck& stop);
  Pass(Decoder& decoder, std::span<const std::int32_t> ids, std::size_t wanted, const Parallel::StopCheck& stop)
      : Pass(decoder, decoder.scratch_, ids, wanted, stop) {}
  // None of them needs rows.
  Pass(Decoder& decoder, Scratch& scratch, std::span<const std::int32_t> ids, const Parallel::StopCheck& stop);

  // The next rows. A chunk counts as cached when what is behind it is asked for: ask until there are no more.
  Rows Next();
  // The same, but hidden states in place of logits: `hidden` (wanted, D) gets those of the rows, behind the final norm.
  Rows NextHidden(float* hidden);

  // body(i) for i < count, on the model's threads; `cost` of one, in nanoseconds. Throws Stopped.
  template <class Body>
  void For(std::size_t count, double cost, const Body& body) {
    scratch_.parallel.For(count, 1, cost, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) body(i);
    });
    scratch_.parallel.ThrowIfStopped();
  }

 private:
  // Goes on to the next chunk, where this one has no more rows. False: there is none.
  bool Advance();
  // Takes the next `count` rows of the chunk: the place of the first among all of the call.
  std::size_t Take(std::size_t count);
  // Runs the chunk through the layers, its last `live_` tokens through all of them.
  void RunLayers();

  Decoder& decoder_;
  Scratch& scratch_;
  const Exclusive::Use use_;
  const Parallel::Asking asking_;
  const std::span<const std::int32_t> ids_;
  std::size_t first_wanted_;
  std::size_t begin_ = 0;  // the chunk: ids [begin, begin + count)
  std::size_t count_ = 0;
  std::size_t live_ = 0;   // tokens at the chunk's end whose rows are wanted
  std::size_t given_ = 0;  // of those
};

}  // namespace gemmule
