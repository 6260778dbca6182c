// What a forward pass shows to those who want to see its values.
#pragma once

#include <cstddef>
#include <span>

namespace gemmule {

struct LinearCall;

// Calls come on the calling thread, between parallel regions. After a stop (Parallel::stopped) the values are void.
class Observer {
 public:
  virtual ~Observer() = default;

  // Linear modules have made their y of x (T, K), the same for all.
  virtual void OnLinear(const float* x, std::size_t tokens, std::span<const LinearCall> calls) = 0;
  // Layer `layer` has stored these in the cache: (T, G E) each.
  virtual void OnKeysValues(std::size_t layer, std::span<const float> keys, std::span<const float> values) = 0;
};

}  // namespace gemmule
