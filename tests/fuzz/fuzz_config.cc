// Any bytes as a config.json, of a model and of a drafter.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/hf_config.h"
#include "formats/json.h"
#include "refusal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using gemmule::fuzz::Accepts;
  Accepts([&] {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const gemmule::JsonValue root = gemmule::ParseJson(text, "config.json");
    Accepts([&] { gemmule::ReadConfig(root, "config.json"); });
    Accepts([&] { gemmule::ReadDrafterConfig(root, "config.json"); });
  });
  return 0;
}
