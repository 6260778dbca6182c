// Any bytes as a folder: config.json up to the first zero byte, model.safetensors behind it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "engine/load.h"
#include "refusal.h"

namespace {

namespace fs = std::filesystem;

void Write(const fs::path& path, const std::uint8_t* begin, const std::uint8_t* end) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(begin), end - begin);
  if (!file.flush()) std::abort();
}

fs::path MakeFolder() {
  std::string name = fs::temp_directory_path() / "fuzz_folder.XXXXXX";
  if (mkdtemp(name.data()) == nullptr) std::abort();
  return name;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fs::path folder = MakeFolder();
  const std::uint8_t* const end = data + size;
  const std::uint8_t* const zero = std::find(data, end, 0);
  Write(folder / "config.json", data, zero);
  Write(folder / "model.safetensors", std::min(zero + 1, end), end);
  gemmule::fuzz::Accepts([&] { gemmule::LoadCheckpoint(folder.string(), {.threads = 1, .unused_too = true}); });
  return 0;
}
