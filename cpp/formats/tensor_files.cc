#include "formats/tensor_files.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace gemmule {

void TensorFiles::Add(std::shared_ptr<const MappedFile> file, std::vector<TensorView> more) {
  tensors.insert(tensors.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  files.push_back(std::move(file));
}

void TensorFiles::SortByName() {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  const auto twice =
      std::adjacent_find(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name == b.name; });
  if (twice == tensors.end()) return;
  throw FormatError("the tensor stands in two files",
                    {.file = files[twice->file]->path(),
                     .tensor = twice->name,
                     .expected = "each tensor once",
                     .found = "one more in " + files[std::next(twice)->file]->path()});
}

const TensorView* TensorFiles::Find(std::string_view name) const {
  const auto at = std::lower_bound(tensors.begin(), tensors.end(), name,
                                   [](const TensorView& tensor, std::string_view want) { return tensor.name < want; });
  return at != tensors.end() && at->name == name ? &*at : nullptr;
}

std::unique_ptr<RowSource> TensorFiles::Rows(const TensorView& tensor) const {
  const auto rows = static_cast<std::size_t>(tensor.shape[0]);
  return std::make_unique<FileRows>(files[tensor.file], tensor.bytes, tensor.bytes.size() / rows);
}

std::uint64_t TensorFiles::MappedBytes() const {
  std::uint64_t bytes = 0;
  for (const auto& file : files) bytes += file->size();
  return bytes;
}

const MappedFile* TensorFiles::FileOf(const std::byte* byte) const {
  const auto holds = [&](const auto& file) {
    const std::span<const std::byte> map = file->bytes();
    return !std::less<>()(byte, map.data()) && std::less<>()(byte, map.data() + map.size());
  };
  const auto at = std::find_if(files.begin(), files.end(), holds);
  return at == files.end() ? nullptr : at->get();
}

void TensorFiles::ForgetPages(std::span<const std::byte> part) const {
  if (const MappedFile* const file = FileOf(part.data())) file->ForgetPages(part);
}

}  // namespace gemmule
