// A model in GGUF: one file, or the parts that llama-gguf-split makes of one.
#pragma once

#include <string>

#include "formats/gguf.h"
#include "formats/tensor_files.h"

namespace gemmule {

struct GgufFiles {
  std::string path;  // of the file that holds the metadata
  GgufMetadata metadata;
  TensorFiles weights;
};

// Opens and checks a file and, where it is one part of several (any of them), the others beside it. Throws
// ResourceError where a file cannot be read, FormatError and UnsupportedError as ReadGguf does.
GgufFiles OpenGguf(const std::string& path);

}  // namespace gemmule
