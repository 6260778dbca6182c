// The encodings that converting writes.
#pragma once

#include <memory>
#include <string_view>

#include "engine/encode_tensor.h"

namespace gemmule {

// `encoding` is a name of quant/encoding.h that CanEncode, or the source's own, whose rows are copied; `grid`, for Q4_0
// only, is "recover" or "llama". Throws ArgumentError for other names and for rows that do not divide into blocks.
std::unique_ptr<RowEncoder> MakeRowEncoder(std::string_view encoding, std::string_view grid,
                                           const SourceTensor& source);

}  // namespace gemmule
