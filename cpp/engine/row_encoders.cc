#include "engine/row_encoders.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "base/error.h"
#include "kernels/encode.h"

namespace gemmule {
namespace {

// Rows that are stored as they are wanted.
class Copy : public RowEncoder {
 public:
  explicit Copy(const SourceTensor& source) : source_(source) {}
  std::size_t row_bytes() const override { return RowBytes(source_.encoding(), source_.cols()); }
  void Encode(std::size_t row, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept override {
    std::copy_n(source_.Row(row), row_bytes(), out);
    counts.elements += x.size();
    counts.on_grid += x.size();
    for (const float value : x) counts.squares += static_cast<double>(value) * value;
  }

 private:
  const SourceTensor& source_;
};

// Floats, and blocks that hold their own scales.
class Encoded : public RowEncoder {
 public:
  Encoded(const EncodeOptions& options, std::size_t cols) : options_(options), cols_(cols) {}
  std::size_t row_bytes() const override { return RowBytes(options_.target, cols_); }
  void Encode(std::size_t, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept override {
    EncodeWeights(options_, x, out, counts);
  }

 private:
  EncodeOptions options_;
  std::size_t cols_;
};

Encoding FindTarget(std::string_view name) {
  const auto known = std::find_if(std::begin(kEncodings), std::end(kEncodings),
                                  [&](Encoding encoding) { return Name(encoding) == name; });
  if (known != std::end(kEncodings) && CanEncode(*known)) return *known;
  throw ArgumentError("tensors are not written as \"" + std::string(name) + "\"");
}

Grid FindGrid(std::string_view name) {
  if (name == "recover") return Grid::kRecover;
  if (name == "llama") return Grid::kLlama;
  throw ArgumentError("grid is \"" + std::string(name) + "\"", "Use \"recover\" or \"llama\".");
}

// What the decoded weights were widened from; products of codes and scales are float32.
Encoding WidenedFrom(Encoding encoding) {
  return encoding == Encoding::kF16 || encoding == Encoding::kBF16 ? encoding : Encoding::kF32;
}

}  // namespace

std::unique_ptr<RowEncoder> MakeRowEncoder(std::string_view encoding, std::string_view grid,
                                           const SourceTensor& source) {
  const Encoding target = FindTarget(encoding);
  if (target == source.encoding()) return std::make_unique<Copy>(source);
  if (source.cols() % BlockElements(target) != 0) {
    throw ArgumentError("rows of " + std::to_string(source.cols()) + " elements do not divide into blocks of " +
                        std::to_string(BlockElements(target)));
  }
  return std::make_unique<Encoded>(
      EncodeOptions{.target = target, .source = WidenedFrom(source.encoding()), .grid = FindGrid(grid)}, source.cols());
}

}  // namespace gemmule
