// The encodings that converting writes.
#pragma once

#include <memory>
#include <string_view>

#include "engine/encode_tensor.h"

namespace gemmule {

// Rows of floats ("f32", "f16", "bf16"), each rounded to nearest even; or blocks that hold their own scales.
// Throws ArgumentError for other names.
std::unique_ptr<RowEncoder> MakeRowEncoder(std::string_view encoding, const SourceTensor& source);

}  // namespace gemmule
