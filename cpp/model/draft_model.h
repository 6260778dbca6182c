// A drafter of multi-token prediction, Gemma 4's "assistant": a small model that guesses the next tokens of another,
// its target. Its layers have queries only, and read keys and values that the target has made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "model/config.h"
#include "model/linear.h"
#include "model/model.h"
#include "model/weights.h"

namespace gemmule {

// A head that gives logits to the tokens of the likeliest clusters only. C clusters of V / C tokens each.
struct Clusters {
  Linear centroids;                          // (C, D)
  std::size_t centroid_intermediate_top_k;   // clusters whose tokens get logits
  std::vector<std::int32_t> token_ordering;  // (C, V / C) ids
};

// Letters as in model/config.h, for the drafter; Dt is the target's D.
struct DraftModel {
  Config config;
  Weights weights;
  std::vector<std::size_t> kv_layers;  // (L,), of the target: whose keys and values each layer reads
  Linear pre_projection;               // (D, 2 Dt)
  Linear post_projection;              // (Dt, D)
  std::optional<Clusters> clusters;    // none: all tokens get logits
  Products products = Products::kFloat32;
  std::vector<std::shared_ptr<const TensorStorage>> files;  // that the weights are views of
};

}  // namespace gemmule
