#include "engine/encode_tensor.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "base/buffer.h"
#include "base/error.h"
#include "kernels/sum_of_squares.h"

namespace gemmule {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{4} << 20;  // of decoded rows: what is in memory at a time
constexpr double kElementCost = 1.0;                       // ns to decode and encode, roughly

void PwriteAll(int descriptor, std::span<const std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t wrote = pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      throw ResourceError("the file cannot be written: " + std::generic_category().message(errno),
                          "Make room on the disk, or choose another place.");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    offset += static_cast<std::uint64_t>(wrote);
  }
}

[[noreturn]] void RefuseNonfinite(const SourceTensor& source, const TensorFiles& files, std::size_t row) {
  std::vector<float> x(source.cols());
  source.Decode(row, x);
  const auto at = std::find_if(x.begin(), x.end(), [](float value) { return !std::isfinite(value); });
  const MappedFile* const file = files.FileOf(source.parts[0].data);
  if (at == x.end()) {
    throw ResourceError("a weight has changed while it was read", "Convert again, from a file that nobody writes to.",
                        {.file = file ? file->path() : files.files[0]->path(), .tensor = source.name});
  }
  throw FormatError(
      "a weight is not a finite number",
      {.file = file ? file->path() : files.files[0]->path(),
       .tensor = source.name,
       .expected = "finite numbers",
       .found = std::to_string(*at) + " in row " + std::to_string(row) + ", column " + std::to_string(at - x.begin())});
}

// Makes them 0; how many they were.
std::uint64_t ReplaceNonfinite(std::span<float> x) {
  std::uint64_t count = 0;
  for (float& value : x) {
    if (std::isfinite(value)) continue;
    value = 0.0f;
    ++count;
  }
  return count;
}

}  // namespace

EncodeCounts EncodeTensor(const SourceTensor& source, const TensorFiles& files, RowEncoder& encoder, Parallel& parallel,
                          const EncodeTarget& target, bool allow_nonfinite) {
  const std::size_t rows = source.rows();
  const std::size_t cols = source.cols();
  const std::size_t row_bytes = encoder.row_bytes();
  const std::size_t piece = std::clamp<std::size_t>(kPieceBytes / (cols * sizeof(float)), 1, rows);
  Buffer<float> x(piece * cols);
  Buffer<std::byte> encoded(piece * row_bytes);
  std::vector<EncodeCounts> counts(piece);  // one a row: sums do not depend on the threads
  std::vector<char> nonfinite(piece);
  EncodeCounts sum;
  for (std::size_t first = 0; first < rows; first += piece) {
    const std::size_t count = std::min(piece, rows - first);
    parallel.For(count, 1, kElementCost * static_cast<double>(cols), [&](std::size_t begin, std::size_t end) {
      const std::span<float> row(x.data() + begin * cols, cols);  // one for all rows of this thread's piece
      for (std::size_t i = begin; i < end; ++i) {
        source.Decode(first + i, row);
        nonfinite[i] = !std::isfinite(SumOfSquares(row));
        counts[i] = {};
        if (nonfinite[i] && allow_nonfinite) counts[i].nonfinite = ReplaceNonfinite(row);
        if (!nonfinite[i] || allow_nonfinite) {
          encoder.Encode(first + i, row, encoded.data() + i * row_bytes, counts[i]);
        }
      }
    });
    parallel.ThrowIfStopped();
    const auto bad = std::find(nonfinite.begin(), nonfinite.begin() + static_cast<std::ptrdiff_t>(count), 1);
    const std::size_t good = static_cast<std::size_t>(bad - nonfinite.begin());
    if (good != count && !allow_nonfinite) RefuseNonfinite(source, files, first + good);
    for (std::size_t i = 0; i < count; ++i) sum += counts[i];
    PwriteAll(target.descriptor, {encoded.data(), count * row_bytes}, target.offset + first * row_bytes);
  }
  for (const MatrixView& part : source.parts) files.ForgetPages({part.data, part.bytes()});
  return sum;
}

}  // namespace gemmule
