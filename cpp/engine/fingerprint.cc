#include "engine/fingerprint.h"

#include <cstdint>
#include <span>
#include <string_view>

namespace gemmule {
namespace {

constexpr std::size_t kPieces = 4;
constexpr std::size_t kPieceBytes = 64;

void Append(std::vector<std::byte>& to, std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  to.insert(to.end(), bytes.begin(), bytes.end());
  to.push_back(std::byte{0});
}

// Little-endian, whatever the machine.
void Append(std::vector<std::byte>& to, std::uint64_t number) {
  for (int shift = 0; shift < 64; shift += 8) to.push_back(static_cast<std::byte>(number >> shift));
}

void AppendFrom(std::vector<std::byte>& to, const MappedFile& file, std::span<const std::byte> part) {
  to.resize(to.size() + part.size());
  file.Pread(part, to.data() + to.size() - part.size());
}

}  // namespace

std::vector<std::byte> Fingerprint(const Checkpoint& checkpoint) {
  std::vector<std::byte> print;
  for (const TensorView& tensor : checkpoint.files.tensors) {
    const MappedFile& file = *checkpoint.files.files[tensor.file];
    const std::size_t size = tensor.bytes.size();
    Append(print, tensor.name);
    Append(print, tensor.dtype_name);
    Append(print, tensor.shape.size());
    for (const std::uint64_t length : tensor.shape) Append(print, length);
    if (size <= kPieces * kPieceBytes) {
      AppendFrom(print, file, tensor.bytes);
      continue;
    }
    for (std::size_t i = 0; i < kPieces; ++i) {
      AppendFrom(print, file, tensor.bytes.subspan((size - kPieceBytes) * i / (kPieces - 1), kPieceBytes));
    }
  }
  for (const auto& file : checkpoint.files.files) file->CheckWhole();
  return print;
}

}  // namespace gemmule
