#include "engine/row_encoders.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "base/error.h"
#include "quant/row.h"

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

// Floats, rounded to nearest even.
class Floats : public RowEncoder {
 public:
  Floats(Encoding encoding, std::size_t cols) : encoding_(encoding), row_bytes_(RowBytes(encoding, cols)) {}
  std::size_t row_bytes() const override { return row_bytes_; }
  void Encode(std::size_t, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept override {
    EncodeRow(encoding_, x, 0.0f, out);
    counts.elements += x.size();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double error = static_cast<double>(x[i]) - FloatAt(encoding_, out, i);
      counts.on_grid += error == 0.0;
      counts.squares += static_cast<double>(x[i]) * x[i];
      counts.error_squares += error * error;
    }
  }

 private:
  Encoding encoding_;
  std::size_t row_bytes_;
};

}  // namespace

std::unique_ptr<RowEncoder> MakeRowEncoder(std::string_view name, const SourceTensor& source) {
  const auto known = std::find_if(std::begin(kEncodings), std::end(kEncodings),
                                  [&](Encoding encoding) { return Name(encoding) == name; });
  if (known == std::end(kEncodings)) throw ArgumentError("no encoding has the name \"" + std::string(name) + "\"");
  if (*known == source.encoding()) return std::make_unique<Copy>(source);
  switch (*known) {
    case Encoding::kF32:
    case Encoding::kBF16: return std::make_unique<Floats>(*known, source.cols());
    default: throw ArgumentError("tensors are not written as \"" + std::string(name) + "\"");
  }
}

}  // namespace gemmule
