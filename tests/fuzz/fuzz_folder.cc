// Any bytes as a model's folder.
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/load.h"
#include "input_folder.h"
#include "refusal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string& folder = gemmule::fuzz::InputFolder::Write(data, size);
  gemmule::fuzz::Accepts([&] { gemmule::LoadCheckpoint(folder, {.threads = 1, .unused_too = true}); });
  return 0;
}
