// The tokenizer of a Hugging Face checkpoint.
#pragma once

#include <string>

#include "text/tokenizer.h"

namespace gemmule {

// Reads a tokenizer.json. The vocabulary and the merges, which are nearly all of it, are read as they stand, without a
// tree. Throws FormatError for a file that is broken or contradicts itself, UnsupportedError for one that asks for
// anything but what Gemma's asks for, and ResourceError where it cannot be read. A merge whose result is not in the
// vocabulary is left out.
Tokenizer ReadTokenizerJson(const std::string& path);

}  // namespace gemmule
