// Mapped files and the tensors in them, by name.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "formats/mapped_file.h"

namespace gemmule {

struct TensorFiles {
  std::vector<std::shared_ptr<const MappedFile>> files;  // TensorView::file counts these
  std::vector<TensorView> tensors;                       // sorted by name, each name once, after SortByName

  // The tensors of one more file, whose `file` must be the number of files so far.
  void Add(std::shared_ptr<const MappedFile> file, std::vector<TensorView> more);
  // Throws FormatError where a tensor stands in two files.
  void SortByName();

  // Null where no file has such a tensor. Points into `tensors`.
  const TensorView* Find(std::string_view name) const;
  // Reads the rows (first dimension) of one of `tensors` from its file; it has some.
  std::unique_ptr<RowSource> Rows(const TensorView& tensor) const;
  std::uint64_t MappedBytes() const;
  // The file in whose map this byte lies; null where none.
  const MappedFile* FileOf(const std::byte* byte) const;
  // Gives back the pages of what was read, if it lies in a map: the next look reads them from the file again.
  void ForgetPages(std::span<const std::byte> part) const;
};

}  // namespace gemmule
