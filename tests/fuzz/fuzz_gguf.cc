// Any bytes as a GGUF file: its values and tensors, its tokenizer, and the model it describes.
#include <cstddef>
#include <cstdint>

#include "engine/gguf_text.h"
#include "engine/load.h"
#include "formats/gguf.h"
#include "input_file.h"
#include "refusal.h"

namespace {

using gemmule::fuzz::Accepts;

// Asks for the value as what it is and as what it is not.
void ReadAll(const gemmule::GgufValue& value) {
  Accepts([&] { value.Int(); });
  Accepts([&] { value.Number(); });
  Accepts([&] { value.Bool(); });
  Accepts([&] { value.String(); });
  Accepts([&] { value.Ints(); });
  Accepts([&] { value.Numbers(); });
  Accepts([&] { value.Strings(); });
  Accepts([&] { value.Fail("a value as found", "another one"); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string& path = gemmule::fuzz::InputFile::Write(data, size);
  Accepts([&] {
    const auto file = gemmule::MappedFile::Open(path);
    const gemmule::GgufFile read = gemmule::ReadGguf(file, 0);
    for (const gemmule::GgufValue& value : read.metadata.values()) ReadAll(value);
    Accepts([&] { gemmule::ReadGgufTokenizer(read.metadata); });
    Accepts([&] { gemmule::LoadCheckpoint(path, {.threads = 1}); });
  });
  return 0;
}
