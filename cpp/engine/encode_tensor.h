// Writes one tensor of a checkpoint in another encoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/parallel.h"
#include "engine/source_tensors.h"
#include "formats/tensor_files.h"
#include "quant/encode_counts.h"

namespace gemmule {

// How the rows of one tensor are encoded, by several threads at once.
class RowEncoder {
 public:
  virtual ~RowEncoder() = default;
  virtual std::size_t row_bytes() const = 0;
  // x (cols,) finite, out (row_bytes(),); adds to `counts`.
  virtual void Encode(std::size_t row, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept = 0;
};

// Where the rows go: an open file, from a byte on.
struct EncodeTarget {
  int descriptor;
  std::uint64_t offset;
};

// Encodes the rows of `source`, whose maps are `files`, and writes them into the target, some megabytes at a time. The
// source's pages are given back as it goes.
//
// Throws FormatError that names the first NaN or infinity, unless they are allowed: they are 0 then, but in rows that
// are copied; ResourceError where the file cannot be written; Stopped.
EncodeCounts EncodeTensor(const SourceTensor& source, const TensorFiles& files, RowEncoder& encoder, Parallel& parallel,
                          const EncodeTarget& target, bool allow_nonfinite);

}  // namespace gemmule
