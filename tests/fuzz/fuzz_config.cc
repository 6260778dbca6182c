// Any bytes as a config.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/hf_config.h"
#include "formats/json.h"
#include "refusal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  gemmule::fuzz::Accepts([&] {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    gemmule::ReadConfig(gemmule::ParseJson(text, "config.json"), "config.json");
  });
  return 0;
}
