// The safetensors format: u64 header length (little-endian), JSON header, then the tensors' bytes without a gap.
#pragma once

#include <cstddef>
#include <vector>

#include "base/tensor.h"
#include "formats/mapped_file.h"

namespace gemmule {

// The tensors of one file, in the order of its header. Each view points into `file` and has `file_index` as its `file`.
// Throws FormatError for everything in which header and file disagree.
std::vector<TensorView> ReadSafetensors(const MappedFile& file, std::size_t file_index);

}  // namespace gemmule
