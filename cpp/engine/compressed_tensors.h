// quantization_config of the compressed-tensors format: what the stored tensors do not say of themselves.
#pragma once

#include <cstddef>
#include <vector>

#include "formats/json.h"

namespace gemmule {

// How many neighbours in a row share a scale, for each scheme of the config; 0: the whole row. Empty where the config
// lists no scheme. Which module has which scheme is not looked at: its tensors say that.
//
// Throws UnsupportedError for a scheme that gemmule does not run, FormatError for fields that are none.
//
// Source: compressed-tensors 0.20, quantization/quant_config.py, quant_scheme.py, quant_args.py.
std::vector<std::size_t> ReadCompressedTensors(const JsonCursor& quantization);

}  // namespace gemmule
