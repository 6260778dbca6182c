// The encodings that converting writes.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "engine/encode_tensor.h"

namespace gemmule {

// `encoding` is a name of quant/encoding.h that CanEncode, or the source's own, whose rows are copied; `grid`, for Q4_0
// only, is "recover" or "llama". Throws ArgumentError for other names and for rows that do not divide into blocks.
std::unique_ptr<RowEncoder> MakeRowEncoder(std::string_view encoding, std::string_view grid,
                                           const SourceTensor& source);

// Codes whose scales lie apart, in `scales` (rows, G): they are found by `rule` ("absmax", "search" or "recover"), as
// numbers of `scale_type` ("f32" or "bf16"), or are there already ("given"). Where the source has such codes, with a
// scale for as many weights or more, its rows are copied whatever the rule, but for "given".
//
//   encoding  "c2", "c4", "c8", or "g4" with G = cols / 32
//
// Throws ArgumentError for other names and for rows that do not divide into G groups of whole bytes.
std::unique_ptr<RowEncoder> MakeCodeEncoder(std::string_view encoding, std::string_view rule,
                                            std::string_view scale_type, const SourceTensor& source,
                                            std::span<float> scales);

}  // namespace gemmule
