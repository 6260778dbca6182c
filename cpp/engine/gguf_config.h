// From GGUF metadata to what the model runs by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/gguf_tensors.h"
#include "formats/gguf_files.h"
#include "model/config.h"

namespace gemmule {

// What metadata leaves to the tensors (the vocabulary, which layers have values of their own, tied heads, which angles
// turn) is read from `tensors`. Throws FormatError for a key that is missing, of the wrong type or out of range,
// UnsupportedError for a feature that gemmule does not run.
Config ReadGgufConfig(const GgufFiles& checkpoint, GgufTensors& tensors);

// general.architecture, such as "gemma4".
std::string ReadArchitecture(const GgufMetadata& metadata);

// Ids that end a text: those the metadata names, and tokens of Gemma's chats that do, whatever the metadata says.
std::vector<std::int64_t> ReadEndTokens(const GgufMetadata& metadata);

}  // namespace gemmule
