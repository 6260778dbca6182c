// A loaded checkpoint: immutable, shared by all conversations and threads.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/tensor.h"
#include "base/workers.h"
#include "model/config.h"
#include "model/weights.h"

namespace gemmule {

// How products with quantized matrices are formed; matrices of floats take float32 activations always.
enum class Products {
  kInteger,  // codes: int8 activations at the static scales; without one: 16 bits in two digits for the head, else
             // float32. Blocks: int8 activations with a scale of their own for every 32 elements, unless static
  kFloat32,  // float32 activations, still rounded to the static scales
};

enum class KvMode {
  kFloat32,
  kBf16,
  kStatic,  // int8 on sliding layers, int4 on full ones, at the checkpoint's scales
};

struct Model {
  Config config;
  Weights weights;
  Products products = Products::kFloat32;
  KvMode kv = KvMode::kFloat32;
  std::size_t context = 0;                                  // tokens a conversation may hold
  std::shared_ptr<Workers> workers;                         // threads that all conversations share
  std::vector<std::shared_ptr<const TensorStorage>> files;  // that the weights are views of

  // To be asked before results count. Throws ResourceError where a file is not whole any more.
  void CheckFiles() const {
    for (const auto& file : files) file->CheckWhole();
  }
};

}  // namespace gemmule
