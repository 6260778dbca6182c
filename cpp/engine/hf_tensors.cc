#include "engine/hf_tensors.h"

#include "base/error.h"

namespace gemmule {
namespace {

bool IsPacked(DType dtype) { return dtype == DType::kU8 || dtype == DType::kI8; }

}  // namespace

HfTensors::HfTensors(const CheckpointFiles& checkpoint, bool mobile)
    : TensorTable(checkpoint.weights, checkpoint.config_path),
      mobile_(mobile),
      prefix_(checkpoint.weights.Find("model.language_model.norm.weight") ? "model.language_model." : "model.") {}

Encoding HfTensors::CheckMatrix(const TensorView& tensor, std::size_t rows, std::size_t cols) const {
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

const TensorView& HfTensors::NeedScales(const std::string& name, std::size_t rows, std::size_t cols) {
  const TensorView& tensor = Need(name);
  const bool two =
      tensor.shape.size() == 2 && tensor.shape[0] == rows && tensor.shape[1] != 0 && cols % tensor.shape[1] == 0;
  if (tensor.dtype != DType::kF32 || !two) {
    WrongShape(tensor, "F32 [" + std::to_string(rows) + ", S] with S a divisor of " + std::to_string(cols));
  }
  CountBytes(tensor);
  return tensor;
}

Linear HfTensors::Matrix(const std::string& name, std::size_t rows, std::size_t cols) {
  const TensorView& weight = Need(name + ".weight");
  const Encoding encoding = CheckMatrix(weight, rows, cols);
  Count(weight, std::uint64_t{rows} * cols);
  Linear linear{.name = FileName(name), .weight = {encoding, weight.bytes.data(), rows, cols}};
  if (!IsCoded(encoding)) return linear;
  const TensorView& scale = NeedScales(name + ".weight_scale", rows, cols);
  if (scale.shape[1] != 1) WrongShape(scale, "F32 [" + std::to_string(rows) + ", 1]");
  linear.weight.scales = {scale.bytes.data(), rows};
  linear.input_scale = Scalar(name + ".input_activation_scale");
  linear.output_scale = Scalar(name + ".output_activation_scale");
  for (const float value : {linear.input_scale, linear.output_scale}) {
    if (value < 0.0f) {
      throw FormatError("a negative activation scale", {.file = files_.files[weight.file]->path(),
                                                        .tensor = linear.name,
                                                        .expected = "0 (not calibrated) or more",
                                                        .found = std::to_string(value)});
    }
  }
  return linear;
}

ExpertMatrices HfTensors::Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                                std::size_t all_rows, std::size_t cols) {
  const TensorView& tensor = Need(name);
  const auto encoding = FloatEncoding(tensor.dtype);
  if (!encoding || tensor.shape != std::vector<std::uint64_t>{experts, all_rows, cols}) {
    WrongShape(tensor, "BF16, F16 or F32 " + ShapeText({experts, all_rows, cols}));
  }
  if (first == 0) Count(tensor, std::uint64_t{experts} * all_rows * cols);
  const std::size_t row_bytes = RowBytes(*encoding, cols);
  return {{*encoding, tensor.bytes.data() + first * row_bytes, rows, cols}, all_rows * row_bytes};
}

Embedding HfTensors::Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier) {
  const bool packed = mobile_ && Has(name + ".embedding_quantized");
  const TensorView& codes = Need(packed ? name + ".embedding_quantized" : name + ".weight");
  Embedding table{.name = FileName(name),
                  .encoding = CheckMatrix(codes, rows, cols),
                  .cols = cols,
                  .codes = files_.Rows(codes),
                  .scales = nullptr,
                  .multiplier = multiplier};
  Count(codes, std::uint64_t{rows} * cols);
  if (IsCoded(table.encoding)) table.scales = files_.Rows(NeedScales(name + ".embedding_scale", rows, cols));
  return table;
}

Linear HfTensors::TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols) {
  const bool packed = mobile_ && Has(embedding + ".embedding_quantized");
  const TensorView& codes = Need(packed ? embedding + ".embedding_quantized" : embedding + ".weight");
  Linear head{.name = "lm_head", .weight = {CheckMatrix(codes, rows, cols), codes.bytes.data(), rows, cols}};
  if (!IsCoded(head.weight.encoding)) return head;
  const TensorView& scale = NeedScales(embedding + ".embedding_scale", rows, cols);
  if (scale.shape[1] != 1)
    WrongShape(scale, "F32 [" + std::to_string(rows) + ", 1], as the head that is tied to it needs");
  head.weight.scales = {scale.bytes.data(), rows};
  return head;
}

float HfTensors::CacheScale(const std::string& name) { return mobile_ && Has(name) ? Scalar(name) : 0.0f; }

std::vector<std::string> HfTensors::Leftovers(const Config& config) const {
  std::vector<std::string> leftovers;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string attention = prefix_ + "layers." + std::to_string(i) + ".self_attn.";
    for (const char* name : {"k_cache_scale", "v_cache_scale"}) leftovers.push_back(attention + name);
    if (config.layers[i].kv_owner == i) continue;
    for (const char* name : {"k_proj.", "v_proj.", "k_norm."}) leftovers.push_back(attention + name);
  }
  if (config.tie_word_embeddings) leftovers.push_back("lm_head.");
  return leftovers;
}

std::vector<std::string> HfTensors::Towers() const {
  return {"model.vision_tower.", "model.audio_tower.", "model.embed_vision.", "model.embed_audio.",
          "model.vision_embedder."};
}

std::string HfTensors::FileName(const std::string& name) const {
  return name.starts_with("lm_head") ? name : prefix_ + name;
}

}  // namespace gemmule
