// The operations of a forward pass, as a profile tells them apart.
#pragma once

#include <cstddef>
#include <iterator>
#include <string_view>

namespace gemmule {

enum class Operation {
  // Outside of the layers.
  kEmbedding,       // rows of the embedding, angles of rope, room in the cache
  kPerLayerInputs,  // all layers' inputs at once
  kHead,            // final norm, logits, softcap
  // In each layer. A product includes the rounding of its input.
  kNorms,          // of the stream, before and after each part, and adding a part to the stream
  kQkv,            // q_proj, k_proj, v_proj
  kRope,           // norms of queries, keys and values, rope, writing the cache
  kAttention,      // scores, softmax, sum of the values
  kOProj,          // o_proj
  kGateUp,         // gate_proj, up_proj, gelu
  kDown,           // down_proj
  kExperts,        // router and experts
  kPerLayerInput,  // per_layer_input_gate, gelu, per_layer_projection
};

inline constexpr Operation kOperations[] = {
    Operation::kEmbedding, Operation::kPerLayerInputs, Operation::kHead,      Operation::kNorms,
    Operation::kQkv,       Operation::kRope,           Operation::kAttention, Operation::kOProj,
    Operation::kGateUp,    Operation::kDown,           Operation::kExperts,   Operation::kPerLayerInput,
};

constexpr std::string_view Name(Operation operation) {
  switch (operation) {
    case Operation::kEmbedding: return "embedding";
    case Operation::kPerLayerInputs: return "per_layer_inputs";
    case Operation::kHead: return "head";
    case Operation::kNorms: return "norms";
    case Operation::kQkv: return "qkv";
    case Operation::kRope: return "rope";
    case Operation::kAttention: return "attention";
    case Operation::kOProj: return "o_proj";
    case Operation::kGateUp: return "gate_up";
    case Operation::kDown: return "down";
    case Operation::kExperts: return "experts";
    case Operation::kPerLayerInput: return "per_layer_input";
  }
  return "?";
}

// The place of an operation in a profile: layer i's, or with i = L what is outside of the layers.
constexpr std::size_t ProfilePlace(std::size_t layer, Operation operation) {
  return layer * std::size(kOperations) + static_cast<std::size_t>(operation);
}

}  // namespace gemmule
