#include "input_folder.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace gemmule::fuzz {
namespace {

namespace fs = std::filesystem;

void WriteFile(const std::string& path, const std::uint8_t* begin, const std::uint8_t* end) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(begin), end - begin);
  if (!file.flush()) std::abort();
}

std::string MakeFolder() {
  std::string name = fs::temp_directory_path() / "fuzz_folder.XXXXXX";
  if (mkdtemp(name.data()) == nullptr) std::abort();
  return name;
}

}  // namespace

const std::string& InputFolder::Write(const std::uint8_t* data, std::size_t size) {
  static const std::string folder = MakeFolder();
  const std::uint8_t* const end = data + size;
  const std::uint8_t* const zero = std::find(data, end, 0);
  WriteFile(folder + "/config.json", data, zero);
  WriteFile(folder + "/model.safetensors", zero == end ? end : zero + 1, end);
  return folder;
}

}  // namespace gemmule::fuzz
