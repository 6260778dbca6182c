#include "engine/row_encoders.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>

#include "base/error.h"
#include "kernels/code_scales.h"
#include "kernels/encode.h"
#include "kernels/encode_codes.h"
#include "kernels/sum_of_squares.h"
#include "quant/channelwise.h"

namespace gemmule {
namespace {

// Rows that are stored as they are wanted. Where their scales lie apart, (rows, G), each may serve several groups.
class Copy : public RowEncoder {
 public:
  explicit Copy(const SourceTensor& source, std::span<float> scales = {}, std::size_t groups = 0)
      : source_(source), scales_(scales), groups_(groups) {}
  std::size_t row_bytes() const override { return RowBytes(source_.encoding(), source_.cols()); }
  void Encode(std::size_t row, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept override {
    std::copy_n(source_.Row(row), row_bytes(), out);
    const ScaleView from = source_.Scales(row);
    for (std::size_t g = 0; g < groups_; ++g) scales_[row * groups_ + g] = from.At(g * from.count / groups_);
    counts.elements += x.size();
    counts.on_grid += x.size();
    counts.squares += SumOfSquares(x);
  }

 private:
  const SourceTensor& source_;
  std::span<float> scales_;
  std::size_t groups_;
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

// The encoding of this name, if `is_good`.
template <class IsGood>
Encoding FindEncoding(std::string_view name, const IsGood& is_good) {
  const auto known = std::find_if(std::begin(kEncodings), std::end(kEncodings),
                                  [&](Encoding encoding) { return Name(encoding) == name; });
  if (known != std::end(kEncodings) && is_good(*known)) return *known;
  throw ArgumentError("tensors are not written as \"" + std::string(name) + "\"");
}

std::optional<ScaleRule> FindRule(std::string_view name) {
  if (name == "given") return std::nullopt;
  if (name == "absmax") return ScaleRule::kAbsmax;
  if (name == "search") return ScaleRule::kSearch;
  if (name == "recover") return ScaleRule::kRecover;
  throw ArgumentError("the rule for scales is \"" + std::string(name) + "\"",
                      "Use \"search\", \"absmax\" or \"recover\".");
}

Grid FindGrid(std::string_view name) {
  if (name == "recover") return Grid::kRecover;
  if (name == "llama") return Grid::kLlama;
  throw ArgumentError("grid is \"" + std::string(name) + "\"", "Use \"recover\" or \"llama\".");
}

// Codes whose scales lie apart, (rows, G).
class Coded : public RowEncoder {
 public:
  // Without a rule the scales are given.
  Coded(Encoding encoding, Encoding source, std::optional<ScaleRule> rule, Encoding scale_type, std::size_t cols,
        std::span<float> scales, std::size_t groups)
      : encoding_(encoding),
        source_(source),
        rule_(rule),
        scale_type_(scale_type),
        cols_(cols),
        scales_(scales),
        groups_(groups) {}
  std::size_t row_bytes() const override { return RowBytes(encoding_, cols_); }
  void Encode(std::size_t row, std::span<const float> x, std::byte* out, EncodeCounts& counts) noexcept override {
    const std::span<float> scales = scales_.subspan(row * groups_, groups_);
    if (rule_) FindScales(*rule_, encoding_, source_, scale_type_, x, scales);
    EncodeCodes(encoding_, source_, x, scales, out, counts);
  }

 private:
  Encoding encoding_;
  Encoding source_;
  std::optional<ScaleRule> rule_;
  Encoding scale_type_;
  std::size_t cols_;
  std::span<float> scales_;
  std::size_t groups_;
};

bool HasScalesFor(const SourceTensor& source, std::size_t groups, Encoding scale_type) {
  const ScaleView scales = source.Scales(0);
  return scales.count != 0 && groups % scales.count == 0 &&
         (scale_type == Encoding::kF32 || scales.encoding == scale_type);
}

// What the decoded weights were widened from; products of codes and scales are float32.
Encoding WidenedFrom(Encoding encoding) {
  return encoding == Encoding::kF16 || encoding == Encoding::kBF16 ? encoding : Encoding::kF32;
}

}  // namespace

std::unique_ptr<RowEncoder> MakeRowEncoder(std::string_view encoding, std::string_view grid,
                                           const SourceTensor& source) {
  const Encoding target = FindEncoding(encoding, CanEncode);
  if (target == source.encoding()) return std::make_unique<Copy>(source);
  if (source.cols() % BlockElements(target) != 0) {
    throw ArgumentError("rows of " + std::to_string(source.cols()) + " elements do not divide into blocks of " +
                        std::to_string(BlockElements(target)));
  }
  return std::make_unique<Encoded>(
      EncodeOptions{.target = target, .source = WidenedFrom(source.encoding()), .grid = FindGrid(grid)}, source.cols());
}

std::unique_ptr<RowEncoder> MakeCodeEncoder(std::string_view encoding, std::string_view rule,
                                            std::string_view scale_type, const SourceTensor& source,
                                            std::span<float> scales) {
  const Encoding target =
      FindEncoding(encoding, [](Encoding known) { return IsCoded(known) || known == Encoding::kG4; });
  const Encoding scales_as =
      FindEncoding(scale_type, [](Encoding known) { return known == Encoding::kF32 || known == Encoding::kBF16; });
  const auto found_rule = FindRule(rule);
  const std::size_t cols = source.cols();
  const std::size_t groups = scales.size() / source.rows();
  const bool has_groups = groups != 0 && scales.size() % source.rows() == 0 && cols % groups == 0;
  if (!has_groups || (cols / groups) % BlockElements(target) != 0 ||
      (target == Encoding::kG4 && cols / groups != BlockElements(target))) {
    throw ArgumentError("rows of " + std::to_string(cols) + " elements do not divide into groups of " +
                        std::to_string(BlockElements(target)));
  }
  if (found_rule && target == source.encoding() && HasScalesFor(source, groups, scales_as)) {
    return std::make_unique<Copy>(source, scales, groups);
  }
  return std::make_unique<Coded>(target, WidenedFrom(source.encoding()), found_rule, scales_as, cols, scales, groups);
}

}  // namespace gemmule
