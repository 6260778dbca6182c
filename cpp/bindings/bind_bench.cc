// gemmule._core.bench: where time goes, and what the machine can do at most.
#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/bind.h"
#include "engine/kernel_bench.h"
#include "engine/load.h"
#include "model/operation.h"
#include "quant/row.h"

namespace gemmule {
namespace {

// A linear module, and what its bytes lie in.
struct Matrix {
  Linear linear;
  std::shared_ptr<const void> model;  // or
  py::object arrays;

  std::size_t bytes() const {
    const MatrixView& w = linear.weight;
    return w.rows * w.RowBytes() + w.scales.count * BlockBytes(w.scales.encoding);
  }
};

void Want(bool ok, const char* what) {
  if (!ok) throw ArgumentError(what);
}

std::size_t Dim(const py::array& array, py::ssize_t axis) { return static_cast<std::size_t>(array.shape(axis)); }

std::span<const std::byte> ByteView(const Bytes& x) {
  return {reinterpret_cast<const std::byte*>(x.data()), static_cast<std::size_t>(x.size())};
}

std::span<float> MutableView(Floats& x) { return {x.mutable_data(), static_cast<std::size_t>(x.size())}; }

Floats Copy(const Floats& x) {
  Floats y(std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
  std::copy_n(x.data(), x.size(), y.mutable_data());
  return y;
}

template <class Call>
double WithoutLock(const Call& call) {
  const GilReleased nogil;
  return call();
}

Matrix MatrixOf(const std::string& name, const std::string& encoding, const Bytes& codes,
                const std::optional<Floats>& scales, float input_scale, float output_scale, bool is_last) {
  const Encoding e = EncodingNamed(encoding);
  Want(codes.ndim() == 2 && BlockBytes(e) > 0 && Dim(codes, 1) % BlockBytes(e) == 0, "codes: want (rows, bytes)");
  const std::size_t cols = Dim(codes, 1) / BlockBytes(e) * BlockElements(e);
  Want(IsCoded(e) ? scales && Dim(*scales, 0) == Dim(codes, 0) && scales->ndim() == 1 : !scales && e != Encoding::kG4,
       "scales: want (rows,) for codes, none for other encodings");
  ScaleView view;
  if (scales) view = {reinterpret_cast<const std::byte*>(scales->data()), Dim(*scales, 0), Encoding::kF32};
  return {{.name = name,
           .weight = {e, ByteView(codes).data(), Dim(codes, 0), cols, view},
           .input_scale = input_scale,
           .output_scale = output_scale,
           .is_last = is_last},
          nullptr,
          py::make_tuple(codes, scales)};
}

// Those of experts too, each on its own.
std::vector<Matrix> Matrices(const std::shared_ptr<Checkpoint>& checkpoint) {
  const Model& model = checkpoint->model;
  std::vector<Matrix> matrices;
  ForEachLinear(model.weights, [&](const Linear& linear) { matrices.push_back({linear, checkpoint, py::none()}); });
  for (const LayerWeights& layer : model.weights.layers) {
    for (std::size_t e = 0; e < model.config.num_experts; ++e) {
      for (const auto& [name, experts] :
           {std::pair{"experts.gate_proj", &layer.gate_experts}, std::pair{"experts.up_proj", &layer.up_experts},
            std::pair{"experts.down_proj", &layer.down_experts}}) {
        matrices.push_back({{.name = name, .weight = experts->Expert(e)}, checkpoint, py::none()});
      }
    }
  }
  return matrices;
}

Floats Row(const Matrix& matrix, std::size_t row) {
  const MatrixView& w = matrix.linear.weight;
  Want(row < w.rows, "row: there are not so many");
  Floats values(static_cast<py::ssize_t>(w.cols));
  DecodeRow(w.encoding, {w.Row(row), w.RowBytes()}, w.RowScales(row), MutableView(values));
  return values;
}

py::tuple RunRead(KernelBench& bench, const Bytes& data) {
  Want(data.size() % 64 == 0, "data: want a multiple of 64 bytes");
  std::uint32_t sum = 0;
  const double seconds = WithoutLock([&] { return bench.Read(ByteView(data), &sum); });
  return py::make_tuple(seconds, sum);
}

py::tuple RunMultiplyAdds(KernelBench& bench, std::size_t rounds) {
  std::uint64_t count = 0;
  const double seconds = WithoutLock([&] { return bench.MultiplyAdds(rounds, &count); });
  return py::make_tuple(seconds, count);
}

py::tuple RunLinears(KernelBench& bench, const std::vector<std::shared_ptr<Matrix>>& list, const Floats& x) {
  const auto matrices = Pointers(list);
  Want(!matrices.empty() && x.ndim() == 2 && x.shape(0) > 0, "want matrices, and x (T, K)");
  std::vector<const Linear*> modules;
  for (const Matrix* matrix : matrices) {
    const MatrixView& w = matrix->linear.weight;
    Want(w.rows == matrices.front()->linear.weight.rows && w.cols == Dim(x, 1),
         "matrices: want (rows, K), all of them");
    modules.push_back(&matrix->linear);
  }
  Floats y({x.shape(0), static_cast<py::ssize_t>(modules.front()->weight.rows)});
  float* out = y.mutable_data();
  const std::size_t tokens = Dim(x, 0);
  const double seconds = WithoutLock([&] { return bench.Linears(modules, x.data(), tokens, out); });
  return py::make_tuple(seconds, y);
}

py::tuple RunAttention(KernelBench& bench, const Bytes& cache, const std::string& encoding, float k_scale,
                       float v_scale, std::size_t kv_heads, std::size_t positions, std::size_t window,
                       const Floats& q) {
  const Encoding e = EncodingNamed(encoding);
  Want(e == Encoding::kF32 || e == Encoding::kBF16 || e == Encoding::kC8 || e == Encoding::kC4,
       "encoding: want f32, bf16, c8 or c4");
  Want(q.ndim() == 3 && q.size() > 0 && kv_heads > 0 && Dim(q, 1) % kv_heads == 0 && Dim(q, 2) % 2 == 0 &&
           Dim(q, 2) <= kMaxHeadDim,
       "q: want (T, H, E), H a multiple of kv_heads, E even");
  const std::size_t row_bytes = kv_heads * HeadBytes(e, Dim(q, 2));
  Want(cache.ndim() == 2 && Dim(cache, 1) == 2 * KvView::kBlock * row_bytes, "cache: want (blocks, bytes of a block)");
  Want(Dim(q, 0) <= positions && positions <= Dim(cache, 0) * KvView::kBlock && window > 0,
       "positions: want at least T, and room for them in the cache");
  std::vector<const std::byte*> blocks;
  for (std::size_t i = 0; i < Dim(cache, 0); ++i) blocks.push_back(ByteView(cache).data() + i * Dim(cache, 1));
  const AttentionSegment segment{{e, blocks, row_bytes, k_scale, v_scale}, positions - Dim(q, 0), Dim(q, 0)};
  const AttentionShape shape{window, Dim(q, 1), kv_heads, Dim(q, 2)};
  Floats out = Copy(q);
  const auto in_place = MutableView(out);
  const double seconds = WithoutLock([&] { return bench.Attention(segment, shape, in_place); });
  return py::make_tuple(seconds, out);
}

py::tuple RunRows(KernelBench& bench, const std::string& kernel, const Floats& x) {
  Want(x.ndim() == 2 && x.size() > 0 && x.shape(1) % 2 == 0, "x: want (rows, n), n even");
  Floats y = Copy(x);
  const auto in_place = MutableView(y);
  const std::size_t n = Dim(x, 1);
  const double seconds = WithoutLock([&] { return bench.Rows(kernel, in_place, n); });
  return py::make_tuple(seconds, y);
}

void Watch(const std::shared_ptr<Profile>& profile, Decoder& decoder) {
  Want(profile->places().size() == ProfilePlace(decoder.model().config.layers.size() + 1, Operation{}),
       "decoder: its model has another number of layers");
  decoder.Watch(profile);
}

py::list Places(const Profile& profile) {
  const std::size_t layers = profile.places().size() / std::size(kOperations) - 1;
  py::list list;
  for (std::size_t layer = 0; layer <= layers; ++layer) {
    for (const Operation operation : kOperations) {
      const Profile::Place& place = profile.places()[ProfilePlace(layer, operation)];
      if (place.seconds == 0.0) continue;
      const py::object where = layer < layers ? py::object(py::int_(layer)) : py::none();
      list.append(py::make_tuple(where, Name(operation), place.seconds, place.waiting_seconds, place.regions));
    }
  }
  return list;
}

}  // namespace

void BindBench(py::module_& module) {
  py::class_<Matrix, std::shared_ptr<Matrix>>(module, "Matrix")
      .def(py::init(&MatrixOf), py::arg("name"), py::arg("encoding"), py::arg("codes"), py::arg("scales"),
           py::arg("input_scale"), py::arg("output_scale"), py::arg("is_last"))
      .def_property_readonly("name", [](const Matrix& m) { return m.linear.name; })
      .def_property_readonly("encoding", [](const Matrix& m) { return Name(m.linear.weight.encoding); })
      .def_property_readonly("rows", [](const Matrix& m) { return m.linear.weight.rows; })
      .def_property_readonly("cols", [](const Matrix& m) { return m.linear.weight.cols; })
      .def_property_readonly("bytes", &Matrix::bytes)
      .def_property_readonly("input_scale", [](const Matrix& m) { return m.linear.input_scale; })
      .def_property_readonly("output_scale", [](const Matrix& m) { return m.linear.output_scale; })
      .def("row", &Row, py::arg("row"));
  module.def("matrices", &Matrices, py::arg("model").none(false));
  py::class_<KernelBench>(module, "KernelBench")
      .def(py::init([](int threads, bool float32) {
             Want(threads >= 1 && threads <= 1024, "threads: want 1 to 1024");
             return std::make_unique<KernelBench>(threads, float32 ? Products::kFloat32 : Products::kInteger);
           }),
           py::arg("threads"), py::arg("float32"))
      .def_property_readonly("threads", &KernelBench::threads)
      .def("read", &RunRead, py::arg("data"))
      .def("multiply_adds", &RunMultiplyAdds, py::arg("rounds"))
      .def("linears", &RunLinears, py::arg("matrices"), py::arg("x"))
      .def("attention", &RunAttention, py::arg("cache"), py::arg("encoding"), py::arg("k_scale"), py::arg("v_scale"),
           py::arg("kv_heads"), py::arg("positions"), py::arg("window"), py::arg("q"))
      .def("rows", &RunRows, py::arg("kernel"), py::arg("x"));
  py::class_<Profile, std::shared_ptr<Profile>>(module, "Profile")
      .def(py::init([](const Checkpoint& checkpoint) {
             return std::make_shared<Profile>(ProfilePlace(checkpoint.model.config.layers.size() + 1, Operation{}));
           }),
           py::arg("model"))
      .def("watch", &Watch, py::arg("decoder").none(false))
      .def_property_readonly("places", &Places);
}

}  // namespace gemmule
