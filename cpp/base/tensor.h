// A named array of a file, as its bytes lie there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/page_guard.h"

namespace gemmule {

enum class DType {
  kF32,
  kF16,
  kBF16,
  kI8,
  kU8,
  kI32,
  kI64,
  kQ4_0,  // blocks of GGUF: a row is a whole number of them
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kOther,
};

struct TensorView {
  std::string name;
  DType dtype = DType::kOther;
  std::string dtype_name;            // as the file spells it
  std::vector<std::uint64_t> shape;  // outermost first
  std::span<const std::byte> bytes;  // mapped; alignment is not promised
  std::size_t file = 0;              // index of the file it lies in
  std::uint64_t offset = 0;          // of the bytes, from that file's start
};

// A file that tensors are views of.
class TensorStorage {
 public:
  virtual ~TensorStorage() = default;
  // Throws ResourceError where the file is shorter than it was, or a part of it could not be read: what was computed
  // from its views since the last call is void.
  virtual void CheckWhole() const = 0;
};

// What `read` gives, of files that were opened long ago: where they are not whole any more, that is the error, whatever
// the zeros in their place were taken for.
template <class Storage, class Read>
auto ReadAgain(const std::vector<std::shared_ptr<const Storage>>& files, const Read& read) {
  const auto check = [&] {
    for (const auto& file : files) file->CheckWhole();
  };
  PageGuard::ComeFirst();
  try {
    auto result = read();
    check();
    return result;
  } catch (const Error&) {
    check();
    throw;
  }
}

// Reads rows of a table from the file itself rather than through its map: a touched map page makes whole folios
// resident, and of these tables only the rows of the tokens in use are wanted (docs/decisions/0006).
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual std::size_t row_bytes() const = 0;
  virtual const std::string& file() const = 0;  // its path
  // out (row_bytes(),), of a row that there is. Throws ResourceError when the file cannot be read.
  virtual void Read(std::size_t row, std::span<std::byte> out) const = 0;
};

}  // namespace gemmule
