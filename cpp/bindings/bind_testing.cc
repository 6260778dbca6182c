// gemmule._core.testing: every kernel alone, numpy in and numpy out. Shapes are checked here, since kernels trust
// theirs.
#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "base/pieces.h"
#include "base/workers.h"
#include "bindings/bind.h"
#include "engine/histogram.h"
#include "engine/least_squares_scale.h"
#include "engine/load.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "kernels/code_scales.h"
#include "kernels/elementwise.h"
#include "kernels/encode.h"
#include "kernels/encode_codes.h"
#include "kernels/error_scale.h"
#include "kernels/int8_groups.h"
#include "kernels/int8_rows.h"
#include "kernels/kl_divergence.h"
#include "kernels/kv_block.h"
#include "kernels/largest.h"
#include "kernels/log_sum_exp.h"
#include "kernels/matmul_blocks_i8.h"
#include "kernels/matmul_f32.h"
#include "kernels/matmul_i8.h"
#include "kernels/recovered_scale.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/steps.h"
#include "kernels/sum_of_squares.h"
#include "kernels/trained_scale.h"
#include "kernels/training_marks.h"
#include "model/attention.h"
#include "model/linear.h"
#include "quant/row.h"

namespace gemmule {
namespace {

void Want(bool ok, const char* what) {
  if (!ok) throw ArgumentError(what);
}

std::size_t Dim(const py::array& array, py::ssize_t axis) { return static_cast<std::size_t>(array.shape(axis)); }

std::span<const float> View(const Floats& x) { return {x.data(), static_cast<std::size_t>(x.size())}; }
std::span<float> MutableView(Floats& x) { return {x.mutable_data(), static_cast<std::size_t>(x.size())}; }

std::span<const std::byte> ByteView(const py::array& x) {
  return {static_cast<const std::byte*>(x.data()), static_cast<std::size_t>(x.nbytes())};
}

// x with an operation applied in place.
template <class Operation>
Floats Changed(const Floats& x, const Operation& operation) {
  Floats y(x.size());
  std::copy_n(x.data(), x.size(), y.mutable_data());
  operation(MutableView(y));
  return y;
}

// float32, float16, or bfloat16 as uint16; null for none.
ScaleView View(const std::optional<py::array>& scales) {
  if (!scales) return {};
  Want((scales->flags() & py::array::c_style) != 0, "scales: want a contiguous array");
  const char kind = scales->dtype().kind();
  const Encoding floats = kind == 'u' ? Encoding::kBF16 : scales->itemsize() == 2 ? Encoding::kF16 : Encoding::kF32;
  Want((kind == 'u' || kind == 'f') && static_cast<std::size_t>(scales->itemsize()) == BlockBytes(floats),
       "scales: want float32, float16, or uint16 for bfloat16");
  return {ByteView(*scales).data(), static_cast<std::size_t>(scales->size()), floats};
}

bool HasScales(Encoding encoding) { return IsCoded(encoding) || encoding == Encoding::kG4; }

// K elements a row, so that the weight's rows have the bytes they have.
MatrixView Matrix(const Bytes& weight, Encoding encoding, const std::optional<py::array>& scales, const Floats& x) {
  Want(weight.ndim() == 2 && x.ndim() == 2, "want weight (rows, bytes) and x (T, K)");
  Want(Dim(x, 1) % BlockElements(encoding) == 0 && RowBytes(encoding, Dim(x, 1)) == Dim(weight, 1),
       "rows do not fit K");
  const ScaleView view = View(scales);
  Want(view.count == (HasScales(encoding) ? Dim(weight, 0) * (IsCoded(encoding) ? 1 : Dim(x, 1) / kGroup) : 0),
       "scales: want one for a row of codes or 32 elements of g4, none for other encodings");
  return {encoding, ByteView(weight).data(), Dim(weight, 0), Dim(x, 1), view};
}

Floats RunProducts(const Linear& linear, Products products, const Floats& x) {
  Floats y({x.shape(0), static_cast<py::ssize_t>(linear.weight.rows)});
  Workers workers(1);
  Parallel parallel(workers);
  LinearRunner(products, parallel).Run(x.data(), Dim(x, 0), {{&linear, y.mutable_data(), linear.weight.rows}});
  return y;
}

Floats RunMatmulI8(const Bytes& weight, const std::string& encoding, const py::array& row_scale, const Floats& x,
                   float input_scale) {
  const MatrixView w = Matrix(weight, EncodingNamed(encoding), row_scale, x);
  Want(IsCoded(w.encoding), "encoding: want codes");
  return RunProducts({.name = {}, .weight = w, .input_scale = input_scale, .is_last = true}, Products::kInteger, x);
}

Floats RunMatmulBlocksI8(const Bytes& weight, const std::string& encoding, const std::optional<py::array>& scales,
                         const Floats& x) {
  const MatrixView w = Matrix(weight, EncodingNamed(encoding), scales, x);
  Want(IsBlock(w.encoding), "encoding: want blocks");
  return RunProducts({.name = {}, .weight = w}, Products::kInteger, x);
}

// Only rows [begin, end); the other columns are NaN.
Floats RunMatmulBlockRows(const Bytes& weight, const std::string& encoding, const std::optional<py::array>& scales,
                          const Floats& x, std::size_t begin, std::size_t end) {
  const MatrixView w = Matrix(weight, EncodingNamed(encoding), scales, x);
  Want(IsBlock(w.encoding) && begin <= end && end <= w.rows, "want blocks, and rows that there are");
  Int8Groups groups{.tokens = Dim(x, 0), .k = w.cols};
  std::vector<std::int8_t> codes(groups.tokens * groups.k);
  std::vector<float> group_scales(groups.tokens * groups.groups());
  std::vector<std::int32_t> sums(group_scales.size() * ScalesPerGroup(w.encoding));
  groups.codes = codes.data();
  groups.scales = group_scales.data();
  groups.sums = sums.data();
  for (std::size_t t = 0; t < groups.tokens; ++t)
    QuantizeGroups(w.encoding, {x.data() + t * w.cols, w.cols}, t, groups);
  Floats y({x.shape(0), static_cast<py::ssize_t>(w.rows)});
  std::fill_n(y.mutable_data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  MatmulBlocksI8(w, begin, end, groups, y.mutable_data(), w.rows);
  return y;
}

Floats RunMatmulF32(const Bytes& weight, const std::string& encoding, const std::optional<py::array>& scales,
                    const Floats& x) {
  return RunProducts({.name = {}, .weight = Matrix(weight, EncodingNamed(encoding), scales, x)}, Products::kFloat32, x);
}

Floats RunDecodeRow(const Bytes& row, const std::string& encoding, const std::optional<py::array>& scales,
                    std::size_t n) {
  const Encoding e = EncodingNamed(encoding);
  const ScaleView view = View(scales);
  Want(n % BlockElements(e) == 0 && RowBytes(e, n) == static_cast<std::size_t>(row.size()),
       "the row does not hold n elements");
  Want(HasScales(e) ? view.count > 0 && n % view.count == 0 : view.count == 0,
       "scales: for codes and g4 only, and a divisor of n");
  Floats y(static_cast<py::ssize_t>(n));
  DecodeRow(e, ByteView(row), view, MutableView(y));
  return y;
}

py::dict AsDict(const EncodeCounts& counts) {
  using namespace py::literals;
  return py::dict("elements"_a = counts.elements, "on_grid"_a = counts.on_grid, "saturated"_a = counts.saturated,
                  "squares"_a = counts.squares, "error_squares"_a = counts.error_squares);
}

py::tuple RunEncode(const Floats& x, const std::string& source, const std::string& target, const std::string& grid) {
  const EncodeOptions options = {.target = EncodingNamed(target),
                                 .source = EncodingNamed(source),
                                 .grid = grid == "llama" ? Grid::kLlama : Grid::kRecover};
  Want(CanEncode(options.target) && (grid == "llama" || grid == "recover"), "target or grid: not known");
  Want(x.ndim() == 2 && Dim(x, 1) % BlockElements(options.target) == 0, "x: want (rows, K), K in blocks");
  const std::size_t row_bytes = RowBytes(options.target, Dim(x, 1));
  Bytes out({x.shape(0), static_cast<py::ssize_t>(row_bytes)});
  EncodeCounts counts;
  for (py::ssize_t row = 0; row < x.shape(0); ++row) {
    EncodeWeights(options, {x.data(row, 0), Dim(x, 1)}, reinterpret_cast<std::byte*>(out.mutable_data(row, 0)), counts);
  }
  return py::make_tuple(out, AsDict(counts));
}

Encoding CodesNamed(const std::string& name) {
  const Encoding encoding = EncodingNamed(name);
  Want(HasScales(encoding), "codes: want an encoding with scales of its own");
  return encoding;
}

ScaleRule RuleNamed(const std::string& name) {
  Want(name == "absmax" || name == "search" || name == "recover", "rule: not known");
  return name == "absmax" ? ScaleRule::kAbsmax : name == "search" ? ScaleRule::kSearch : ScaleRule::kRecover;
}

Floats RunFindScales(const Floats& x, const std::string& rule, const std::string& codes, const std::string& source,
                     const std::string& scale_type, std::size_t groups) {
  Want(x.ndim() == 2 && groups > 0 && Dim(x, 1) % groups == 0, "x: want (rows, K), K a multiple of groups");
  Floats scales({x.shape(0), static_cast<py::ssize_t>(groups)});
  for (py::ssize_t row = 0; row < x.shape(0); ++row) {
    FindScales(RuleNamed(rule), CodesNamed(codes), EncodingNamed(source), EncodingNamed(scale_type),
               {x.data(row, 0), Dim(x, 1)}, {scales.mutable_data(row, 0), groups});
  }
  return scales;
}

py::tuple RunEncodeCodes(const Floats& x, const std::string& codes, const std::string& source, const Floats& scales) {
  const Encoding encoding = CodesNamed(codes);
  Want(x.ndim() == 2 && scales.ndim() == 2 && x.shape(0) == scales.shape(0) && Dim(scales, 1) > 0 &&
           Dim(x, 1) % (Dim(scales, 1) * Planes(encoding)) == 0,
       "want x (rows, K) and scales (rows, G)");
  Bytes out({x.shape(0), static_cast<py::ssize_t>(Dim(x, 1) / Planes(encoding))});
  EncodeCounts counts;
  for (py::ssize_t row = 0; row < x.shape(0); ++row) {
    EncodeCodes(encoding, EncodingNamed(source), {x.data(row, 0), Dim(x, 1)}, {scales.data(row, 0), Dim(scales, 1)},
                reinterpret_cast<std::byte*>(out.mutable_data(row, 0)), counts);
  }
  return py::make_tuple(out, AsDict(counts));
}

Floats RunAttend(const Floats& q, const Floats& k, const Floats& v, const std::string& element, float k_scale,
                 float v_scale) {
  static const std::vector<std::pair<std::string, Encoding>> kElements = {
      {"f32", Encoding::kF32}, {"bf16", Encoding::kBF16}, {"i8", Encoding::kC8}, {"i4", Encoding::kC4}};
  const auto found =
      std::find_if(kElements.begin(), kElements.end(), [&](const auto& e) { return e.first == element; });
  Want(found != kElements.end(), "element: want f32, bf16, i8 or i4");
  Want(q.ndim() == 1 && k.ndim() == 2 && v.ndim() == 2 && Dim(k, 0) == Dim(v, 0) && Dim(k, 0) > 0 &&
           Dim(k, 1) == Dim(q, 0) && Dim(v, 1) == Dim(q, 0) && Dim(q, 0) % 2 == 0 && Dim(q, 0) > 0 &&
           Dim(q, 0) <= kMaxHeadDim,
       "want q (d,), k and v (n, d), d even");
  const Encoding encoding = found->second;
  const std::size_t n = Dim(k, 0);
  const std::size_t e = Dim(q, 0);
  const std::size_t row_bytes = HeadBytes(encoding, e);
  std::vector<Buffer<std::byte>> blocks((n + KvView::kBlock - 1) / KvView::kBlock);
  std::vector<const std::byte*> pointers;
  for (auto& block : blocks) {
    block.Reserve(2 * KvView::kBlock * row_bytes);
    pointers.push_back(block.data());
  }
  for (std::size_t i = 0; i < n; ++i) {
    StoreKeysValues(encoding, {k.data() + i * e, e}, {v.data() + i * e, e}, e, k_scale, v_scale, i,
                    blocks[i / KvView::kBlock].data());
  }
  const bool coded = IsCoded(encoding);
  const KvView kv{encoding, pointers, row_bytes, coded ? k_scale : 1.0f, coded ? v_scale : 1.0f};
  Floats out(q.size());
  std::copy_n(q.data(), q.size(), out.mutable_data());
  Workers workers(1);
  Parallel parallel(workers);
  const AttentionSegment segment{kv, n - 1, 1};
  AttentionRunner(parallel).Run({&segment, 1}, {AttentionShape::kNoWindow, 1, 1, e}, out.mutable_data());
  return out;
}

Floats RunLinear(const Checkpoint& checkpoint, const std::string& name, const Floats& x) {
  const Linear* found = nullptr;
  ForEachLinear(checkpoint.model.weights, [&](const Linear& linear) { found = linear.name == name ? &linear : found; });
  Want(found != nullptr, "no linear module of this name is in use");
  Want(x.ndim() == 2 && Dim(x, 1) == found->weight.cols, "x: want (T, in)");
  Floats y({x.shape(0), static_cast<py::ssize_t>(found->weight.rows)});
  Parallel parallel(*checkpoint.model.workers);
  LinearRunner(checkpoint.model.products, parallel)
      .Run(x.data(), Dim(x, 0), {{found, y.mutable_data(), found->weight.rows}});
  return y;
}

Floats RunEmbed(const Checkpoint& checkpoint, const std::string& name, const Tokens& tokens) {
  const Weights& weights = checkpoint.model.weights;
  const Embedding& table = name == weights.embed_tokens.name ? weights.embed_tokens : weights.embed_tokens_per_layer;
  Want(table.name == name, "no embedding of this name is in use");
  Floats y({tokens.size(), static_cast<py::ssize_t>(table.cols)});
  for (py::ssize_t t = 0; t < tokens.size(); ++t) {
    const std::int32_t id = tokens.at(t);
    Want(id >= 0 && static_cast<std::size_t>(id) < table.whole.rows, "ids: want rows that there are");
    table.Read(static_cast<std::size_t>(id), {y.mutable_data(t, 0), table.cols});
  }
  return y;
}

Floats RunLayerOutputs(const std::shared_ptr<Checkpoint>& checkpoint, const Tokens& tokens, const Floats& inputs) {
  const Config& config = checkpoint->model.config;
  Want(inputs.ndim() == 3 && Dim(inputs, 0) == config.layers.size() && inputs.shape(1) == tokens.size() &&
           Dim(inputs, 2) == config.hidden_size,
       "inputs: want (L, T, D)");
  Floats outputs({inputs.shape(0), inputs.shape(1), inputs.shape(2)});
  Decoder decoder(ModelOf(checkpoint));
  const auto ids = Ids(tokens);
  WithoutGil(
      [&](const Parallel::StopCheck& stop) { decoder.LayerOutputs(ids, View(inputs), MutableView(outputs), stop); });
  return outputs;
}

py::list ListTensors(const std::vector<TensorView>& tensors) {
  py::list list;
  for (const TensorView& tensor : tensors) {
    list.append(py::make_tuple(tensor.name, tensor.dtype_name, py::tuple(py::cast(tensor.shape)), tensor.bytes.size()));
  }
  return list;
}

}  // namespace

void BindTesting(py::module_& module) {
  module.def("targets", &Targets);
  module.def(
      "set_target", [](const std::optional<std::string>& name) { SetTarget(name.value_or("")); }, py::arg("name"));
  module.def("exp", [](const Floats& x) { return Changed(x, [](std::span<float> y) { Exp(y, y); }); });
  module.def(
      "rms_norm",
      [](const Floats& x, const std::optional<Floats>& weight, float eps) {
        Want(x.size() > 0 && (!weight || weight->size() == x.size()), "want x (n,) and weight (n,)");
        return Changed(
            x, [&](std::span<float> y) { RmsNorm(y, weight ? View(*weight) : std::span<const float>(), eps, y); });
      },
      py::arg("x"), py::arg("weight"), py::arg("eps"));
  module.def(
      "rope",
      [](const Floats& x, const Floats& cos, const Floats& sin) {
        Want(cos.size() == sin.size() && x.size() == 2 * cos.size(), "want x (d,), cos and sin (d / 2,)");
        return Changed(x, [&](std::span<float> y) { Rope(View(cos), View(sin), y); });
      },
      py::arg("x"), py::arg("cos"), py::arg("sin"));
  module.def(
      "gelu_mul",
      [](const Floats& gate, const Floats& up) {
        Want(gate.size() == up.size(), "want gate and up of one size");
        return Changed(gate, [&](std::span<float> y) { GeluMul(y, View(up), y); });
      },
      py::arg("gate"), py::arg("up"));
  module.def(
      "round_to_grid",
      [](const Floats& x, float scale) { return Changed(x, [&](std::span<float> y) { RoundToGrid(scale, y); }); },
      py::arg("x"), py::arg("scale"));
  module.def(
      "softcap", [](const Floats& x, float cap) { return Changed(x, [&](std::span<float> y) { Softcap(cap, y); }); },
      py::arg("x"), py::arg("cap"));
  module.def("sum_of_squares", [](const Floats& x) { return SumOfSquares(View(x)); }, py::arg("x"));
  module.def(
      "largest_of_blocks",
      [](const Floats& x, std::size_t block) {
        Want(x.size() > 0 && block > 0, "want numbers, and blocks");
        Floats out(static_cast<py::ssize_t>((static_cast<std::size_t>(x.size()) + block - 1) / block));
        LargestOfBlocks(View(x), block, {out.mutable_data(), static_cast<std::size_t>(out.size())});
        return out;
      },
      py::arg("x"), py::arg("block"));
  module.def("largest", [](const Floats& x) { return Largest(View(x)); }, py::arg("x"));
  module.def(
      "log_sum_exp",
      [](const Floats& x) {
        Want(x.size() > 0, "want at least one element");
        return LogSumExp(View(x));
      },
      py::arg("x"));
  module.def(
      "kl_divergence",
      [](const Floats& reference, const Floats& logits) {
        Want(logits.size() > 0 && reference.size() == logits.size(), "want two rows of one size");
        return KlDivergence(View(reference), LogSumExp(View(reference)), View(logits), LogSumExp(View(logits)));
      },
      py::arg("reference"), py::arg("logits"));
  module.def(
      "pieces",
      [](std::size_t n, std::size_t threads) {
        Want(n > 0 && threads > 0, "want at least one element, and one thread");
        const Pieces pieces(n, threads);
        std::vector<std::size_t> begins;
        for (std::size_t i = 0; i <= pieces.count(); ++i) begins.push_back(pieces.Begin(i));
        return begins;
      },
      py::arg("n"), py::arg("threads"));
  module.def("matmul_i8", &RunMatmulI8, py::arg("weight"), py::arg("encoding"), py::arg("row_scale"), py::arg("x"),
             py::arg("input_scale"));
  module.def("matmul_block_rows", &RunMatmulBlockRows, py::arg("weight"), py::arg("encoding"), py::arg("scales"),
             py::arg("x"), py::arg("begin"), py::arg("end"));
  module.def("matmul_blocks_i8", &RunMatmulBlocksI8, py::arg("weight"), py::arg("encoding"), py::arg("scales"),
             py::arg("x"));
  module.def("matmul_f32", &RunMatmulF32, py::arg("weight"), py::arg("encoding"), py::arg("scales"), py::arg("x"));
  module.def("decode_row", &RunDecodeRow, py::arg("row"), py::arg("encoding"), py::arg("scales"), py::arg("n"));
  module.def("encode", &RunEncode, py::arg("x"), py::arg("source"), py::arg("target"), py::arg("grid"));
  module.def("find_scales", &RunFindScales, py::arg("x"), py::arg("rule"), py::arg("codes"), py::arg("source"),
             py::arg("scale_type"), py::arg("groups"));
  module.def("encode_codes", &RunEncodeCodes, py::arg("x"), py::arg("codes"), py::arg("source"), py::arg("scales"));
  module.def(
      "error_scale",
      [](const Floats& x, const std::string& rule, const std::string& codes) {
        Want(x.size() > 0 && (rule == "expected" || rule == "least"), "want weights, rule expected or least");
        const CodeRange range = RangeOf(CodesNamed(codes));
        return rule == "least" ? LeastSquaresScale(range, View(x)) : ExpectedErrorScale(range, View(x));
      },
      py::arg("x"), py::arg("rule"), py::arg("codes"));
  module.def(
      "trained_scale",
      [](const Floats& x, int bits, float expected) {
        Want((bits == 2 || bits == 4) && expected > 0.0f, "want 2 or 4 bits, and a positive scale");
        return TrainedScale(bits, View(x), expected);
      },
      py::arg("x"), py::arg("bits"), py::arg("expected"));
  module.def(
      "training_marks",
      [](int bits) {
        Want(bits == 2 || bits == 4, "want 2 or 4 bits");
        const TrainingMarks& marks = MarksOf(bits);
        return py::make_tuple(Floats({2, TrainingMarks::kBins}, marks.scores[0].data()), marks.deviation);
      },
      py::arg("bits"));
  module.def(
      "recovered_scale",
      [](const Floats& x, const std::string& codes, const std::string& source, const std::string& scale_type) {
        Want(x.size() > 0, "want weights");
        return RecoveredScale(CodesNamed(codes), EncodingNamed(source), EncodingNamed(scale_type), View(x));
      },
      py::arg("x"), py::arg("codes"), py::arg("source"), py::arg("scale_type"));
  module.def("attend", &RunAttend, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("element"), py::arg("k_scale"),
             py::arg("v_scale"));
  module.def("linear", &RunLinear, py::arg("model"), py::arg("name"), py::arg("x"));
  module.def("embed", &RunEmbed, py::arg("model"), py::arg("name"), py::arg("ids"));
  module.def("layer_outputs", &RunLayerOutputs, py::arg("model").none(false), py::arg("ids"), py::arg("inputs"));
  module.def(
      "least_squares_scale",
      [](const Floats& x, int bits) {
        Want(bits >= 2, "bits: want at least 2");
        Histogram values;
        values.Add(View(x));
        Want(!values.HasNonfinite(), "x: want finite values");
        return LeastSquaresScale(values, bits);
      },
      py::arg("x"), py::arg("bits"));
  module.def(
      "parse_json", [](const py::bytes& text) { return ToPython(ParseJson(std::string_view(text), "text")); },
      py::arg("text"));
  module.def(
      "safetensors",
      [](const Path& path) {
        const MappedFile file = MappedFile::Open(path.string());
        return ListTensors(ReadSafetensors(file, 0));
      },
      py::arg("path"));
  module.def(
      "gguf",
      [](const Path& path) {
        const MappedFile file = MappedFile::Open(path.string());
        const GgufFile read = ReadGguf(file, 0);
        py::list keys;
        for (const GgufValue& value : read.metadata.values())
          keys.append(py::make_tuple(value.key(), value.TypeName()));
        return py::make_tuple(keys, ListTensors(read.tensors));
      },
      py::arg("path"));
}

}  // namespace gemmule
