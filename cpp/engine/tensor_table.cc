#include "engine/tensor_table.h"

#include <cmath>
#include <optional>

#include "base/error.h"
#include "quant/row.h"

namespace gemmule {
namespace {

std::string ShapeText(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::optional<Encoding> FloatEncoding(DType dtype) {
  switch (dtype) {
    case DType::kF32: return Encoding::kF32;
    case DType::kF16: return Encoding::kF16;
    case DType::kBF16: return Encoding::kBF16;
    default: return std::nullopt;
  }
}

bool IsPacked(DType dtype) { return dtype == DType::kU8 || dtype == DType::kI8; }

}  // namespace

void TensorTable::WrongShape(const TensorView& tensor, const std::string& expected) const {
  throw FormatError("a tensor of the wrong kind",
                    {.file = files_.files[tensor.file]->path(),
                     .tensor = tensor.name,
                     .offset = tensor.offset,
                     .expected = expected,
                     .found = tensor.dtype_name + " " + ShapeText(tensor.shape)},
                    "The config.json and the weights do not belong together, or the file is damaged.");
}

const TensorView& TensorTable::Need(const std::string& name) {
  const TensorView* tensor = files_.Find(name);
  if (tensor == nullptr) {
    throw FormatError("a tensor that the model needs is missing",
                      {.file = files_.config_path,
                       .tensor = name,
                       .expected = "it in one of the safetensors files",
                       .found = "no tensor of this name"},
                      "The download is not complete, or config.json belongs to another checkpoint.");
  }
  used_.insert(name);
  return *tensor;
}

void TensorTable::Count(const TensorView& tensor, std::uint64_t elements) {
  elements_ += elements;
  bytes_ += tensor.bytes.size();
}

std::vector<float> TensorTable::Vector(const std::string& name, std::size_t n) {
  const TensorView& tensor = Need(name);
  const auto encoding = FloatEncoding(tensor.dtype);
  if (!encoding || tensor.shape != std::vector<std::uint64_t>{n}) {
    WrongShape(tensor, "BF16, F16 or F32 [" + std::to_string(n) + "]");
  }
  Count(tensor, n);
  std::vector<float> values(n);
  DecodeRow(*encoding, tensor.bytes, {}, values);
  return values;
}

float TensorTable::Scalar(const std::string& name) {
  const TensorView& tensor = Need(name);
  const auto encoding = FloatEncoding(tensor.dtype);
  const bool one = tensor.shape.empty() || tensor.shape == std::vector<std::uint64_t>{1};
  if (!encoding || !one) WrongShape(tensor, "one BF16, F16 or F32 value, shape [] or [1]");
  Count(tensor, 1);
  float value = 0.0f;
  DecodeRow(*encoding, tensor.bytes, {}, {&value, 1});
  if (!std::isfinite(value)) {
    throw FormatError("not a finite number", {.file = files_.files[tensor.file]->path(),
                                              .tensor = name,
                                              .offset = tensor.offset,
                                              .expected = "a finite number",
                                              .found = std::to_string(value)});
  }
  return value;
}

Encoding TensorTable::CheckMatrix(const TensorView& tensor, std::size_t rows, std::size_t cols) const {
  if (const auto encoding = FloatEncoding(tensor.dtype)) {
    if (tensor.shape == std::vector<std::uint64_t>{rows, cols}) return *encoding;
    WrongShape(tensor, tensor.dtype_name + " " + ShapeText({rows, cols}));
  }
  if (!IsPacked(tensor.dtype)) WrongShape(tensor, "BF16, F16, F32, or packed U8 or I8");
  if (!mobile_)
    WrongShape(tensor, "BF16, F16 or F32, since config.json has no quantization_config of quant_method gemma");
  if (tensor.dtype == DType::kI8) {
    if (tensor.shape == std::vector<std::uint64_t>{rows, cols}) return Encoding::kC8;
    WrongShape(tensor, "I8 " + ShapeText({rows, cols}));
  }
  for (const Encoding encoding : {Encoding::kC4, Encoding::kC2}) {
    const std::size_t per_byte = BlockElements(encoding);
    if (cols % per_byte == 0 && tensor.shape == std::vector<std::uint64_t>{rows, cols / per_byte}) return encoding;
  }
  WrongShape(tensor, "U8 for shape " + ShapeText({rows, cols}) + ": two elements a byte (4 bits) or four (2 bits)");
}

const TensorView& TensorTable::NeedScales(const std::string& name, std::size_t rows, std::size_t cols) {
  const TensorView& tensor = Need(name);
  const bool two =
      tensor.shape.size() == 2 && tensor.shape[0] == rows && tensor.shape[1] != 0 && cols % tensor.shape[1] == 0;
  if (tensor.dtype != DType::kF32 || !two) {
    WrongShape(tensor, "F32 [" + std::to_string(rows) + ", S] with S a divisor of " + std::to_string(cols));
  }
  bytes_ += tensor.bytes.size();
  return tensor;
}

Linear TensorTable::Matrix(const std::string& name, std::size_t rows, std::size_t cols) {
  const TensorView& weight = Need(name + ".weight");
  const Encoding encoding = CheckMatrix(weight, rows, cols);
  Count(weight, std::uint64_t{rows} * cols);
  Linear linear{.name = name, .weight = {encoding, weight.bytes.data(), rows, cols, nullptr}};
  if (!IsCoded(encoding)) return linear;
  const TensorView& scale = NeedScales(name + ".weight_scale", rows, cols);
  if (scale.shape[1] != 1) WrongShape(scale, "F32 [" + std::to_string(rows) + ", 1]");
  linear.weight.row_scale = scale.bytes.data();
  linear.input_scale = Scalar(name + ".input_activation_scale");
  linear.output_scale = Scalar(name + ".output_activation_scale");
  for (const float value : {linear.input_scale, linear.output_scale}) {
    if (value < 0.0f) {
      throw FormatError("a negative activation scale", {.file = files_.files[weight.file]->path(),
                                                        .tensor = name,
                                                        .expected = "0 (not calibrated) or more",
                                                        .found = std::to_string(value)});
    }
  }
  return linear;
}

ExpertMatrices TensorTable::Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                                  std::size_t all_rows, std::size_t cols) {
  const TensorView& tensor = Need(name);
  const auto encoding = FloatEncoding(tensor.dtype);
  if (!encoding || tensor.shape != std::vector<std::uint64_t>{experts, all_rows, cols}) {
    WrongShape(tensor, "BF16, F16 or F32 " + ShapeText({experts, all_rows, cols}));
  }
  if (first == 0) Count(tensor, std::uint64_t{experts} * all_rows * cols);
  const std::size_t row_bytes = RowBytes(*encoding, cols);
  return {{*encoding, tensor.bytes.data() + first * row_bytes, rows, cols, nullptr}, all_rows * row_bytes};
}

Embedding TensorTable::Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier) {
  const bool packed = mobile_ && Has(name + ".embedding_quantized");
  const TensorView& codes = Need(packed ? name + ".embedding_quantized" : name + ".weight");
  Embedding table{.name = name,
                  .encoding = CheckMatrix(codes, rows, cols),
                  .cols = cols,
                  .codes = files_.Rows(codes),
                  .scales = nullptr,
                  .multiplier = multiplier};
  Count(codes, std::uint64_t{rows} * cols);
  if (IsCoded(table.encoding)) table.scales = files_.Rows(NeedScales(name + ".embedding_scale", rows, cols));
  return table;
}

Linear TensorTable::TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols) {
  const bool packed = mobile_ && Has(embedding + ".embedding_quantized");
  const TensorView& codes = Need(packed ? embedding + ".embedding_quantized" : embedding + ".weight");
  Linear head{.name = "lm_head", .weight = {CheckMatrix(codes, rows, cols), codes.bytes.data(), rows, cols, nullptr}};
  if (!IsCoded(head.weight.encoding)) return head;
  const TensorView& scale = NeedScales(embedding + ".embedding_scale", rows, cols);
  if (scale.shape[1] != 1)
    WrongShape(scale, "F32 [" + std::to_string(rows) + ", 1], as the head that is tied to it needs");
  head.weight.row_scale = scale.bytes.data();
  return head;
}

}  // namespace gemmule
