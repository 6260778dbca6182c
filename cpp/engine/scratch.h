// What computing takes beside the sequences' own state: memory for one call at a time.
#pragma once

#include "base/buffer.h"
#include "base/parallel.h"
#include "model/forward.h"
#include "model/model.h"

namespace gemmule {

// Small until it is used.
struct Scratch {
  // Both must outlive it; `observer` may be null.
  explicit Scratch(const Model& model, Observer* observer = nullptr)
      : parallel(*model.workers), forward(model, parallel, observer) {}

  Parallel parallel;
  Forward forward;
  Buffer<float> logits;  // (count, V), the rows of a pass
};

}  // namespace gemmule
