// Attention of a chunk's queries over the cache, shared out among threads.
#pragma once

#include <cstddef>

#include "base/buffer.h"
#include "base/parallel.h"
#include "kernels/attend.h"

namespace gemmule {

// Queries (T, H, E) of T tokens; position p sees the keys (p - window, p]. G heads of keys.
struct AttentionShape {
  std::size_t position = 0;  // of the first token
  std::size_t tokens = 0;    // T
  std::size_t window = 0;    // keys; kNoWindow: all that is before
  std::size_t heads = 0;     // H, a multiple of G
  std::size_t kv_heads = 0;  // G
  std::size_t head_dim = 0;  // E

  static constexpr std::size_t kNoWindow = static_cast<std::size_t>(-1);
};

class AttentionRunner {
 public:
  // `parallel` must outlive it.
  explicit AttentionRunner(Parallel& parallel) : parallel_(parallel) {}

  // q (T, H, E) becomes the answers. The bits of a token's answer depend on no other token and on no number of threads.
  void Run(const KvView& kv, const AttentionShape& shape, float* q);

 private:
  Parallel& parallel_;
  Buffer<float> parts_;  // unfinished answers: few tiles are cut into spans
};

}  // namespace gemmule
