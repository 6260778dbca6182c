#include "engine/hf_tensors.h"

#include "base/error.h"

namespace gemmule {
namespace {

using Shape = std::vector<std::uint64_t>;

bool IsPacked(DType dtype) { return dtype == DType::kU8 || dtype == DType::kI8; }

}  // namespace

HfTensors::HfTensors(const CheckpointFiles& checkpoint, Packing packing)
    : TensorTable(checkpoint.weights, checkpoint.config_path),
      packing_(packing),
      prefix_(checkpoint.weights.Find("model.language_model.norm.weight") ? "model.language_model." : "model.") {}

Encoding HfTensors::PackedEncoding(const TensorView& tensor, std::size_t rows, std::size_t cols) const {
  if (packing_ == Packing::kNone) {
    WrongShape(tensor, "BF16, F16 or F32, since config.json has no quantization_config");
  }
  if (tensor.dtype == DType::kI8) {
    if (tensor.shape == Shape{rows, cols}) return Encoding::kC8;
    WrongShape(tensor, "I8 " + ShapeText({rows, cols}));
  }
  for (const Encoding encoding : {Encoding::kC4, Encoding::kC2}) {
    const std::size_t per_byte = BlockElements(encoding);
    if (cols % per_byte == 0 && tensor.shape == Shape{rows, cols / per_byte}) return encoding;
  }
  WrongShape(tensor, "U8 for shape " + ShapeText({rows, cols}) + ": two elements a byte (4 bits) or four (2 bits)");
}

void HfTensors::AddScales(Stored& stored, const std::string& name, std::size_t rows, std::size_t cols) {
  const TensorView& tensor = Need(name);
  const auto encoding = FloatEncoding(tensor.dtype);
  const bool fits =
      tensor.shape.size() == 2 && tensor.shape[0] == rows && tensor.shape[1] != 0 && cols % tensor.shape[1] == 0;
  // The mobile format has float32 scales and nothing else; compressed-tensors writes what the model is saved in.
  const bool allowed = packing_ == Packing::kMobile ? tensor.dtype == DType::kF32 : encoding.has_value();
  if (!allowed || !fits) {
    WrongShape(tensor, "F32 [" + std::to_string(rows) + ", S] with S a divisor of " + std::to_string(cols));
  }
  stored.scales = &tensor;
  stored.scale_encoding = *encoding;
}

// The names of the mobile format, and plain matrices.
HfTensors::Stored HfTensors::FindPlain(const std::string& name, std::size_t rows, std::size_t cols) {
  const bool is_table = packing_ == Packing::kMobile && Has(name + ".embedding_quantized");
  const TensorView& elements = Need(is_table ? name + ".embedding_quantized" : name + ".weight");
  if (const auto encoding = FloatEncoding(elements.dtype)) {
    if (elements.shape != Shape{rows, cols}) WrongShape(elements, elements.dtype_name + " " + ShapeText({rows, cols}));
    return {*encoding, &elements, nullptr};
  }
  if (!IsPacked(elements.dtype)) WrongShape(elements, "BF16, F16, F32, or packed U8 or I8");
  Stored stored{PackedEncoding(elements, rows, cols), &elements, nullptr};
  AddScales(stored, is_table ? name + ".embedding_scale" : name + ".weight_scale", rows, cols);
  return stored;
}

// compressed-tensors' "pack-quantized": words of 32 bits, the lowest bits first, which are the mobile format's bytes.
HfTensors::Stored HfTensors::FindWords(const std::string& name, std::size_t rows, std::size_t cols) {
  const TensorView& words = Need(name + ".weight_packed");
  for (const char* unsupported : {".weight_zero_point", ".weight_g_idx"}) {
    if (!Has(name + unsupported)) continue;
    throw UnsupportedError("zero points and reordered columns are not run",
                           "Use a checkpoint quantized symmetrically and without actorder, as Google's are.",
                           {.file = At(words).file, .tensor = FileName(name + unsupported)});
  }
  if (Has(name + ".weight_shape")) Need(name + ".weight_shape");  // says what the config says
  const auto holds = [&](std::size_t bits) {
    return words.shape == Shape{rows, cols * bits / 32} && cols * bits % 32 == 0;
  };
  if (words.dtype != DType::kI32 || !(holds(2) || holds(4))) {
    WrongShape(words, "I32 for shape " + ShapeText({rows, cols}) + ": 8 elements a word (4 bits) or 16 (2 bits)");
  }
  Stored stored{holds(4) ? Encoding::kC4 : Encoding::kC2, &words, nullptr};
  AddScales(stored, name + ".weight_scale", rows, cols);
  const bool grouped = stored.scales->shape[1] != 1;
  if (grouped && stored.encoding == Encoding::kC4 && stored.scales->shape[1] * 32 == cols) {
    stored.encoding = Encoding::kG4;
  }
  return stored;
}

HfTensors::Stored HfTensors::Find(const std::string& name, std::size_t rows, std::size_t cols) {
  const bool words = packing_ == Packing::kCompressedTensors && Has(name + ".weight_packed");
  return words ? FindWords(name, rows, cols) : FindPlain(name, rows, cols);
}

HfTensors::Stored HfTensors::Take(const std::string& name, std::size_t rows, std::size_t cols) {
  const Stored stored = Find(name, rows, cols);
  Count(*stored.elements, std::uint64_t{rows} * cols);
  if (stored.scales != nullptr) CountBytes(*stored.scales);
  return stored;
}

MatrixView HfTensors::View(const Stored& stored, std::size_t rows, std::size_t cols) const {
  MatrixView view{stored.encoding, stored.elements->bytes.data(), rows, cols};
  if (stored.scales == nullptr) return view;
  const std::size_t columns = stored.scales->shape[1];
  if (columns != 1 && stored.encoding != Encoding::kG4) {
    WrongShape(*stored.scales, "[" + std::to_string(rows) + ", 1], one scale a row, or 4 bits in groups of 32");
  }
  view.scales = {stored.scales->bytes.data(), rows * columns, stored.scale_encoding};
  return view;
}

// 0: not calibrated, nothing is rounded. compressed-tensors leaves such scales out.
float HfTensors::ActivationScale(const std::string& name) {
  if (packing_ == Packing::kCompressedTensors && !Has(name)) return 0.0f;
  const float scale = Scalar(name);
  if (scale >= 0.0f) return scale;
  throw FormatError("a negative activation scale", {.file = At(Need(name)).file,
                                                    .tensor = FileName(name),
                                                    .expected = "0 (not calibrated) or more",
                                                    .found = std::to_string(scale)});
}

Linear HfTensors::Matrix(const std::string& name, std::size_t rows, std::size_t cols) {
  const Stored stored = Take(name, rows, cols);
  Linear linear{.name = FileName(name), .weight = View(stored, rows, cols)};
  if (!IsCoded(stored.encoding)) return linear;
  const bool mobile = packing_ == Packing::kMobile;
  linear.input_scale = ActivationScale(name + (mobile ? ".input_activation_scale" : ".input_scale"));
  linear.output_scale = ActivationScale(name + (mobile ? ".output_activation_scale" : ".output_scale"));
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
  return {*encoding, tensor.bytes.data() + first * row_bytes, rows, cols, all_rows * row_bytes};
}

Embedding HfTensors::Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier) {
  const Stored stored = Take(name, rows, cols);
  return {.name = FileName(name),
          .encoding = stored.encoding,
          .cols = cols,
          .codes = files_.Rows(*stored.elements),
          .scales = stored.scales ? files_.Rows(*stored.scales) : nullptr,
          .scale_encoding = stored.scale_encoding,
          .multiplier = multiplier};
}

Linear HfTensors::TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols) {
  return {.name = "lm_head", .weight = View(Find(embedding, rows, cols), rows, cols)};
}

float HfTensors::CacheScale(const std::string& name) {
  return packing_ == Packing::kMobile && Has(name) ? Scalar(name) : 0.0f;
}

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
