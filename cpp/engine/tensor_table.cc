#include "engine/tensor_table.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "quant/row.h"

namespace gemmule {

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

Where TensorTable::At(const TensorView& tensor) const {
  return {.file = files_.files[tensor.file]->path(), .tensor = tensor.name, .offset = tensor.offset};
}

void TensorTable::WrongShape(const TensorView& tensor, const std::string& expected) const {
  Where at = At(tensor);
  at.expected = expected;
  at.found = tensor.dtype_name + " " + ShapeText(tensor.shape);
  throw FormatError("a tensor of the wrong kind", std::move(at),
                    "The config and the weights do not belong together, or the file is damaged.");
}

const TensorView& TensorTable::Need(const std::string& name) {
  const std::string stored = FileName(name);
  const TensorView* tensor = files_.Find(stored);
  if (tensor == nullptr) {
    throw FormatError("a tensor that the model needs is missing",
                      {.file = place_,
                       .tensor = stored,
                       .expected = "it in one of the checkpoint's files",
                       .found = "no tensor of this name"},
                      "The download is not complete, or the config belongs to another checkpoint.");
  }
  used_.insert(stored);
  return *tensor;
}

void TensorTable::Count(const TensorView& tensor, std::uint64_t elements) {
  elements_ += elements;
  bytes_ += tensor.bytes.size();
}

std::vector<float> TensorTable::Vector(const std::string& name, std::size_t n) {
  const TensorView& tensor = Need(name);
  Count(tensor, n);
  std::vector<float> values = Decoded(tensor, n);
  for (std::size_t i = 0; i < n; ++i) WantFinite(tensor, i, values[i]);
  return values;
}

void TensorTable::WantFinite(const TensorView& tensor, std::size_t element, float value) const {
  if (std::isfinite(value)) return;
  Where at = At(tensor);
  at.expected = "a finite number";
  at.found = std::to_string(value) + " as element " + std::to_string(element);
  throw FormatError("not a finite number", std::move(at));
}

std::vector<float> TensorTable::Decoded(const TensorView& tensor, std::size_t n) const {
  const auto encoding = FloatEncoding(tensor.dtype);
  if (!encoding || tensor.shape != std::vector<std::uint64_t>{n}) {
    WrongShape(tensor, "BF16, F16 or F32 [" + std::to_string(n) + "]");
  }
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
  WantFinite(tensor, 0, value);
  return value;
}

}  // namespace gemmule
