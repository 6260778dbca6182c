#include <memory>
#include <string>

#include "bindings/bind.h"
#include "engine/gguf_tensors.h"
#include "engine/row_encoders.h"
#include "engine/source.h"

namespace gemmule {
namespace {

py::tuple Describe(const SourceTensor& tensor) {
  return py::make_tuple(tensor.name, py::tuple(py::cast(tensor.shape)), std::string(Name(tensor.encoding())),
                        tensor.linear ? tensor.linear->input_scale : 0.0f,
                        tensor.linear ? tensor.linear->output_scale : 0.0f);
}

py::list Tensors(const Source& source) {
  py::list list;
  for (const SourceTensor& tensor : source.tensors()) list.append(Describe(tensor));
  return list;
}

py::tuple Encode(Source& source, std::size_t tensor, RowEncoder& encoder, const EncodeTarget& target,
                 bool allow_nonfinite) {
  EncodeCounts counts;
  WithoutGil(*source.checkpoint()->model.workers, [&](const Parallel::StopCheck& stop) {
    counts = source.Encode(tensor, encoder, target, allow_nonfinite, stop);
  });
  return py::make_tuple(counts.elements, counts.on_grid, counts.saturated, counts.nonfinite, counts.squares,
                        counts.error_squares);
}

Floats Rows(const Source& source, std::size_t tensor, std::size_t first, std::size_t count) {
  const std::size_t cols = source.tensors().at(tensor).cols();
  Floats rows({count, cols});
  source.Decode(tensor, first, {rows.mutable_data(), count * cols});
  return rows;
}

}  // namespace

void BindSource(py::module_& module) {
  module.def("gguf_name", &GgufTensors::GgufName, py::arg("name"));
  py::class_<Source>(module, "Source")
      .def(py::init([](const Path& path, int threads) {
             const GilReleased nogil;
             return std::make_unique<Source>(path.string(), threads);
           }),
           py::arg("path"), py::arg("threads"))
      .def_property_readonly(
          "model", [](const Source& source) { return std::const_pointer_cast<Checkpoint>(source.checkpoint()); })
      .def("tensors", &Tensors)
      .def("equal", &Source::Equal, py::arg("tensor"), py::arg("other"))
      .def("rows", &Rows, py::arg("tensor"), py::arg("first"), py::arg("count"))
      .def(
          "encode",
          [](Source& source, std::size_t tensor, const std::string& encoding, const std::string& grid, int descriptor,
             std::uint64_t offset, bool allow_nonfinite) {
            const auto encoder = MakeRowEncoder(encoding, grid, source.tensors().at(tensor));
            return Encode(source, tensor, *encoder, {descriptor, offset}, allow_nonfinite);
          },
          py::arg("tensor"), py::arg("encoding"), py::arg("grid"), py::arg("descriptor"), py::arg("offset"),
          py::arg("allow_nonfinite"))
      .def(
          "encode_codes",
          [](Source& source, std::size_t tensor, const std::string& encoding, const std::string& rule,
             const std::string& scale_type, Floats scales, int descriptor, std::uint64_t offset, bool allow_nonfinite) {
            const std::span<float> all(scales.mutable_data(), static_cast<std::size_t>(scales.size()));
            const auto encoder = MakeCodeEncoder(encoding, rule, scale_type, source.tensors().at(tensor), all);
            return Encode(source, tensor, *encoder, {descriptor, offset}, allow_nonfinite);
          },
          py::arg("tensor"), py::arg("encoding"), py::arg("rule"), py::arg("scale_type"), py::arg("scales").noconvert(),
          py::arg("descriptor"), py::arg("offset"), py::arg("allow_nonfinite"));
}

}  // namespace gemmule
