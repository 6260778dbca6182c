// A whole file, mapped for reading and open for pread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/page_guard.h"
#include "base/tensor.h"

namespace gemmule {

// Owns the map and the descriptor. Reading is safe from several threads at once. Where another program shortens the
// file meanwhile, what is gone reads as zeros, and CheckWhole() throws. What another program writes into the file shows
// in the map, and nothing tells.
class MappedFile : public TensorStorage {
 public:
  // Throws ResourceError when `path` is missing, unreadable or no regular file, FormatError when it is empty.
  static MappedFile Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile() override;

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return bytes_.size(); }  // bytes, >= 1
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

  // To be asked after the last look at bytes(). Throws too where the program has closed the descriptor, whose number
  // may be another file's by now.
  void CheckWhole() const override;

  // Gives the memory back that these bytes of the map take; who reads them again has them read again.
  void ForgetPages(std::span<const std::byte> part) const noexcept;

  // Copies a part of bytes() from the file itself, not through the map. Throws ResourceError when the file ends before
  // or cannot be read.
  void Pread(std::span<const std::byte> part, std::byte* out) const;

 private:
  // Of no file yet.
  explicit MappedFile(std::string path);

  std::string path_;
  int descriptor_ = -1;               // -1 once moved from
  std::uint64_t inode_ = 0;           // of the file, to know it by
  std::span<const std::byte> bytes_;  // the whole map; empty once moved from
  PageGuard guard_;                   // of it
};

// Rows of equal size that lie one after another in a file.
class FileRows : public RowSource {
 public:
  // rows: of the file's bytes(), some times row_bytes.
  FileRows(std::shared_ptr<const MappedFile> file, std::span<const std::byte> rows, std::size_t row_bytes)
      : file_(std::move(file)), rows_(rows), row_bytes_(row_bytes) {}

  std::size_t row_bytes() const override { return row_bytes_; }
  const std::string& file() const override { return file_->path(); }
  void Read(std::size_t row, std::span<std::byte> out) const override;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::span<const std::byte> rows_;
  std::size_t row_bytes_;
};

}  // namespace gemmule
