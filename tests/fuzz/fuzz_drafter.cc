// Any bytes as the folder of a drafter, for a model of the sizes that make_seeds.py gives its drafters.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/load.h"
#include "input_folder.h"
#include "refusal.h"

namespace {

using gemmule::LayerType;

std::shared_ptr<const gemmule::Checkpoint> MakeTarget() {
  auto target = std::make_shared<gemmule::Checkpoint>();
  gemmule::Config& config = target->model.config;
  config.vocab_size = 16;
  config.hidden_size = 4;
  config.sliding_window = 16;
  config.layers = {
      {.type = LayerType::kSliding, .head_dim = 2, .num_key_value_heads = 1, .kv_owner = 0},
      {.type = LayerType::kFull, .head_dim = 4, .num_key_value_heads = 1, .kv_owner = 1},
      {.type = LayerType::kFull, .head_dim = 4, .num_key_value_heads = 1, .kv_owner = 1},
  };
  return target;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto target = MakeTarget();
  const std::string& folder = gemmule::fuzz::InputFolder::Write(data, size);
  gemmule::fuzz::Accepts([&] { gemmule::LoadDrafter(folder, target, {}); });
  return 0;
}
