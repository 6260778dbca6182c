// Times of single kernels, run as the forward pass runs them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/exclusive.h"
#include "base/parallel.h"
#include "base/workers.h"
#include "model/attention.h"
#include "model/linear.h"
#include "model/model.h"

namespace gemmule {

// Every call returns the seconds that it took. Not for two threads at once: a second call while one runs throws
// ArgumentError.
class KernelBench {
 public:
  KernelBench(int threads, Products products)
      : workers_(threads), parallel_(workers_), linear_(products, parallel_), attention_(parallel_) {}

  int threads() const { return workers_.threads(); }

  // Reads all bytes, once. `sum`: of the 32-bit words, modulo 2^32; whole vectors of 64 bytes.
  double Read(std::span<const std::byte> data, std::uint32_t* sum);

  // `count`: products of bytes that were added up; 0 if the sums were wrong.
  double MultiplyAdds(std::size_t rounds, std::uint64_t* count);

  // Each module on x (T, K), one after the other; y (T, rows) of the last one. All have one shape.
  double Linears(std::span<const Linear* const> modules, const float* x, std::size_t tokens, float* y);

  // q becomes the attention's result.
  double Attention(const AttentionSegment& segment, const AttentionShape& shape, std::span<float> q);

  // The kernel of this name on each row of x (rows, n), in place, on the calling thread: "rms_norm", "rope", "gelu_mul"
  // (by the row itself), "softcap" (30), "round_to_grid" and "quantize_static" (1/32; the latter gives rounded values
  // as well). Throws ArgumentError for another name.
  double Rows(const std::string& kernel, std::span<float> x, std::size_t n);

 private:
  Workers workers_;
  Parallel parallel_;
  LinearRunner linear_;
  AttentionRunner attention_;
  Exclusive in_use_{"bench"};
};

}  // namespace gemmule
