// Any bytes as a tokenizer.json; one that is accepted encodes and decodes.
#include <cstddef>
#include <cstdint>
#include <optional>

#include "input_file.h"
#include "refusal.h"
#include "text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string& path = gemmule::fuzz::InputFile::Write(data, size);
  std::optional<gemmule::Tokenizer> tokenizer;
  if (!gemmule::fuzz::Accepts([&] { tokenizer = gemmule::ReadTokenizerJson(path); })) return 0;
  constexpr char kText[] = "the  <eos>\n\xF0\x9F\x98\x80 <0x41> a b ab";
  const auto ids = tokenizer->Encode(kText, gemmule::ControlTokens::kParse, {});
  if (ids) tokenizer->Decode(*ids);
  return 0;
}
