#include "engine/hf_tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "base/error.h"

namespace gemmule {
namespace {

using Shape = std::vector<std::uint64_t>;

bool IsPacked(DType dtype) { return dtype == DType::kU8 || dtype == DType::kI8; }

// Floats of 8 bits and less, by the names that safetensors has for them.
bool IsSmallFloat(const TensorView& tensor) {
  const std::string& name = tensor.dtype_name;
  return name.starts_with("F8_") || name.starts_with("F6_") || name == "F4";
}

template <class T>
std::vector<std::uint64_t> Integers(std::span<const std::byte> bytes) {
  std::vector<std::uint64_t> numbers;
  for (std::size_t at = 0; at + sizeof(T) <= bytes.size(); at += sizeof(T)) {
    T number;
    std::memcpy(&number, bytes.data() + at, sizeof number);
    numbers.push_back(static_cast<std::uint64_t>(number));
  }
  return numbers;
}

}  // namespace

HfTensors::HfTensors(const CheckpointFiles& checkpoint, Quantization quantization)
    : TensorTable(checkpoint.weights, checkpoint.config_path),
      packing_(quantization.packing),
      group_sizes_(std::move(quantization.group_sizes)),
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
  if (!encoding || !allowed || !fits) {
    WrongShape(tensor, "F32 [" + std::to_string(rows) + ", S] with S a divisor of " + std::to_string(cols));
  }
  const std::size_t columns = tensor.shape[1];
  const auto announced = [&](std::size_t size) { return size == cols / columns || (size == 0 && columns == 1); };
  if (!group_sizes_.empty() && std::none_of(group_sizes_.begin(), group_sizes_.end(), announced)) {
    WrongShape(tensor, "scales for as many elements as a group of the config's quantization_config");
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
    if (packing_ == Packing::kCompressedTensors && Has(name + ".weight_scale")) {
      throw UnsupportedError("weights saved before their compression are not run", "Save the model compressed.",
                             {.file = At(elements).file,
                              .tensor = elements.name,
                              .expected = "codes, where there are scales",
                              .found = elements.dtype_name});
    }
    return {*encoding, &elements, nullptr};
  }
  if (IsSmallFloat(elements)) {
    throw UnsupportedError("weights of small floats are not run",
                           "Use a checkpoint with integer weights (mobile, W4A16, GGUF) or the bfloat16 one.",
                           {.file = At(elements).file,
                            .tensor = elements.name,
                            .expected = "BF16, F16, F32, or packed U8 or I8",
                            .found = elements.dtype_name});
  }
  if (!IsPacked(elements.dtype)) WrongShape(elements, "BF16, F16, F32, or packed U8 or I8");
  Stored stored{PackedEncoding(elements, rows, cols), &elements, nullptr};
  AddScales(stored, is_table ? name + ".embedding_scale" : name + ".weight_scale", rows, cols);
  return stored;
}

// How many bits a word's elements have follows from the words of a row. A row that ends inside a word has the rest of
// it as padding.
Encoding HfTensors::WordEncoding(const TensorView& words, std::size_t rows, std::size_t cols) const {
  std::vector<Encoding> fitting;
  for (const Encoding encoding : {Encoding::kC2, Encoding::kC4, Encoding::kU8}) {
    const std::size_t per_word = 4 * BlockElements(encoding);
    const bool whole_bytes = cols % BlockElements(encoding) == 0;
    if (whole_bytes && words.shape == Shape{rows, (cols + per_word - 1) / per_word}) fitting.push_back(encoding);
  }
  if (words.dtype != DType::kI32 || fitting.size() != 1) {
    WrongShape(words, "I32 for shape " + ShapeText({rows, cols}) +
                          ", rows of whole bytes: 4, 8 or 16 elements a word (8, 4 or 2 bits)");
  }
  return fitting[0];
}

// weight_shape says what the config says.
void HfTensors::CheckStoredShape(const std::string& name, std::size_t rows, std::size_t cols) {
  if (!Has(name)) return;
  const TensorView& tensor = Need(name);
  std::vector<std::uint64_t> stored;
  if (tensor.shape == Shape{2} && tensor.dtype == DType::kI64) stored = Integers<std::int64_t>(tensor.bytes);
  if (tensor.shape == Shape{2} && tensor.dtype == DType::kI32) stored = Integers<std::int32_t>(tensor.bytes);
  if (stored == Shape{rows, cols}) return;
  Where at = At(tensor);
  at.expected = "I64 or I32 [2]: " + std::to_string(rows) + " and " + std::to_string(cols);
  at.found = tensor.dtype_name + " " + ShapeText(tensor.shape);
  if (!stored.empty()) at.found += ": " + std::to_string(stored[0]) + " and " + std::to_string(stored[1]);
  throw FormatError("the stored shape is not the one of the config", std::move(at));
}

// compressed-tensors' "pack-quantized": words of 32 bits, the lowest bits first, so that their bytes are those of the
// mobile format.
HfTensors::Stored HfTensors::FindWords(const std::string& name, std::size_t rows, std::size_t cols) {
  const TensorView& words = Need(name + ".weight_packed");
  Stored stored{WordEncoding(words, rows, cols), &words, nullptr};
  CheckStoredShape(name + ".weight_shape", rows, cols);
  AddScales(stored, name + ".weight_scale", rows, cols);
  const bool grouped = stored.scales->shape[1] != 1;
  if (grouped && stored.encoding == Encoding::kC4 && stored.scales->shape[1] * 32 == cols) {
    stored.encoding = Encoding::kG4;
  }
  return stored;
}

// What compressed-tensors may have beside a module's weight that changes its result.
void HfTensors::RefuseUnsupported(const std::string& name) const {
  for (const char* suffix : {".weight_zero_point", ".weight_g_idx", ".input_zero_point", ".output_zero_point"}) {
    if (!Has(name + suffix)) continue;
    const TensorView& tensor = *files_.Find(FileName(name + suffix));
    throw UnsupportedError("zero points and reordered columns are not run",
                           "Use a checkpoint quantized symmetrically and without actorder, as Google's are.",
                           {.file = At(tensor).file,
                            .tensor = tensor.name,
                            .expected = "no tensor of this name",
                            .found = tensor.dtype_name + " " + ShapeText(tensor.shape)});
  }
}

HfTensors::Stored HfTensors::Find(const std::string& name, std::size_t rows, std::size_t cols) {
  if (packing_ != Packing::kCompressedTensors) return FindPlain(name, rows, cols);
  RefuseUnsupported(name);
  return Has(name + ".weight_packed") ? FindWords(name, rows, cols) : FindPlain(name, rows, cols);
}

HfTensors::Stored HfTensors::Take(const std::string& name, std::size_t rows, std::size_t cols) {
  const Stored stored = Find(name, rows, cols);
  Count(*stored.elements, std::uint64_t{rows} * cols);
  if (stored.scales != nullptr) CountBytes(*stored.scales);
  return stored;
}

MatrixView HfTensors::Whole(const Stored& stored, std::size_t rows, std::size_t cols) const {
  MatrixView view{stored.encoding, stored.elements->bytes.data(), rows, cols};
  if (stored.scales == nullptr) return view;
  view.scales = {stored.scales->bytes.data(), rows * stored.scales->shape[1], stored.scale_encoding};
  view.padding = stored.elements->bytes.size() / rows - view.RowBytes();
  return view;
}

// Scales of rows, which are few. What they multiply may be rounded to a static scale next, and an ordinary number then.
void HfTensors::WantFiniteScales(const TensorView& tensor, const ScaleView& scales) const {
  for (std::size_t i = 0; i < scales.count; ++i) {
    const float scale = scales.At(i);
    if (!std::isfinite(scale)) WantFinite(tensor, i, scale);
  }
}

MatrixView HfTensors::View(const Stored& stored, std::size_t rows, std::size_t cols) const {
  const std::size_t columns = stored.scales ? stored.scales->shape[1] : 1;
  if (columns != 1 && stored.encoding != Encoding::kG4) {
    if (packing_ == Packing::kMobile) WrongShape(*stored.scales, "F32 [" + std::to_string(rows) + ", 1], one a row");
    Where at = At(*stored.scales);
    at.expected = "4 bits in groups of 32, or one scale a row";
    at.found =
        std::to_string(8 / BlockElements(stored.encoding)) + " bits in groups of " + std::to_string(cols / columns);
    throw UnsupportedError("scales of groups like this are not run",
                           "Use a checkpoint with 4 bits in groups of 32, as Google's are.", std::move(at));
  }
  const MatrixView view = Whole(stored, rows, cols);
  if (stored.scales && columns == 1) WantFiniteScales(*stored.scales, view.scales);
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
  const bool mobile = packing_ == Packing::kMobile;
  if (packing_ == Packing::kNone || (mobile && stored.scales == nullptr)) return linear;
  linear.input_scale = ActivationScale(name + (mobile ? ".input_activation_scale" : ".input_scale"));
  linear.output_scale = ActivationScale(name + (mobile ? ".output_activation_scale" : ".output_scale"));
  return linear;
}

ExpertMatrices HfTensors::Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                                std::size_t all_rows, std::size_t cols) {
  if (packing_ != Packing::kNone && !Has(name)) {
    throw UnsupportedError("packed experts are not run", "Use the GGUF file or the bfloat16 checkpoint of this model.",
                           {.file = At(files_.tensors[0]).file,
                            .tensor = FileName(name),
                            .expected = "the experts' matrices as floats, in one tensor",
                            .found = "no such tensor"});
  }
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
          .multiplier = multiplier,
          .whole = Whole(stored, rows, cols)};
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
  for (const char* table : {"embed_tokens", "embed_tokens_per_layer"}) {
    leftovers.push_back(prefix_ + table + ".embed_scale");  // compressed-tensors writes what the config says
  }
  if (config.tie_word_embeddings) leftovers.push_back("lm_head.");
  return leftovers;
}

std::vector<std::string> HfTensors::Towers() const {
  return {"model.vision_tower.", "model.audio_tower.", "model.embed_vision.", "model.embed_audio.",
          "model.vision_embedder."};
}

std::vector<std::int32_t> HfTensors::Ids(const std::string& name, std::size_t n) {
  const TensorView& tensor = Need(name);
  if (tensor.dtype != DType::kI64 || tensor.shape != Shape{n}) WrongShape(tensor, "I64 " + ShapeText({n}));
  Count(tensor, 0);
  std::vector<std::int32_t> ids;
  for (const std::uint64_t id : Integers<std::int64_t>(tensor.bytes)) {
    if (id >= n) {
      throw FormatError("an id is outside the vocabulary", {.file = At(tensor).file,
                                                            .tensor = tensor.name,
                                                            .expected = "0 to " + std::to_string(n - 1),
                                                            .found = std::to_string(static_cast<std::int64_t>(id))});
    }
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

// A head stands beside the model, and so do the modules around a drafter.
std::string HfTensors::FileName(const std::string& name) const {
  for (const char* outside : {"lm_head", "pre_projection", "post_projection", "masked_embedding"}) {
    if (name.starts_with(outside)) return name;
  }
  return prefix_ + name;
}

}  // namespace gemmule
