// The tokenizer in a GGUF file's metadata.
#pragma once

#include <optional>

#include "formats/gguf.h"
#include "text/tokenizer.h"

namespace gemmule {

// Nothing where the file has no `tokenizer.ggml.tokens`. Throws FormatError where its arrays are wrong or contradict
// each other, UnsupportedError for another kind of tokenizer than Gemma's.
std::optional<Tokenizer> ReadGgufTokenizer(const GgufMetadata& metadata);

}  // namespace gemmule
