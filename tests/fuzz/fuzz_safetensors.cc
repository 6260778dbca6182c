// Any bytes as a safetensors file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "formats/safetensors.h"
#include "input_file.h"
#include "refusal.h"

namespace {

volatile std::byte last;

// Every view lies in the file. Each byte is looked at.
void CheckViews(const gemmule::MappedFile& file, const std::vector<gemmule::TensorView>& tensors) {
  for (const gemmule::TensorView& tensor : tensors) {
    const bool inside = tensor.offset <= file.size() && tensor.bytes.size() <= file.size() - tensor.offset &&
                        tensor.bytes.data() == file.bytes().data() + tensor.offset;
    if (!inside) std::abort();
    for (const std::byte byte : tensor.bytes) last = byte;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string& path = gemmule::fuzz::InputFile::Write(data, size);
  gemmule::fuzz::Accepts([&] {
    const auto file = gemmule::MappedFile::Open(path);
    CheckViews(file, gemmule::ReadSafetensors(file, 0));
  });
  return 0;
}
