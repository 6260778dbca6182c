// The tokenizer in a GGUF file's metadata.
#pragma once

#include <cstdint>
#include <optional>

#include "formats/gguf.h"
#include "text/tokenizer.h"

namespace gemmule {

// Nothing where the file has no `tokenizer.ggml.tokens`. Throws FormatError where its arrays are wrong or contradict
// each other, UnsupportedError for another kind of tokenizer than Gemma's.
std::optional<Tokenizer> ReadGgufTokenizer(const GgufMetadata& metadata);

// How much ReadGgufTokenizer has to read.
struct VocabularySize {
  std::size_t tokens = 0;
  std::size_t text_bytes = 0;  // of the tokens
  std::size_t merges = 0;
};
VocabularySize SizeOfVocabulary(const GgufMetadata& metadata);

}  // namespace gemmule
