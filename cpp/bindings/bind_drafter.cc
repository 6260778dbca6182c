#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "bindings/bind.h"
#include "engine/drafter.h"
#include "engine/load.h"

namespace gemmule {
namespace {

py::dict Info(const DrafterCheckpoint& drafter) {
  py::dict info;
  info["model_type"] = drafter.model_type;
  info["parameters"] = drafter.parameters;
  info["weight_bytes"] = drafter.weight_bytes;
  info["mapped_bytes"] = drafter.files.MappedBytes();
  info["config"] = ConfigDict(drafter.model.config);
  info["unknown_tensors"] = py::cast(drafter.unknown_tensors);
  return info;
}

std::vector<std::int32_t> Draft(Drafter& drafter, Decoder& decoder, std::int32_t token, std::size_t count) {
  std::vector<std::int32_t> drafts(count);
  WithoutGil(*drafter.target().workers,
             [&](const Parallel::StopCheck& stop) { drafter.Draft(decoder, token, drafts, stop); });
  return drafts;
}

py::tuple Step(Drafter& drafter, Decoder& decoder, const Floats& input) {
  const std::size_t width = drafter.target().config.hidden_size;
  if (static_cast<std::size_t>(input.size()) != 2 * width) {
    throw ArgumentError("a drafter's input has " + std::to_string(2 * width) + " elements, not " +
                        std::to_string(input.size()));
  }
  Floats logits(static_cast<py::ssize_t>(drafter.target().config.vocab_size));
  Floats vector(static_cast<py::ssize_t>(width));
  const std::span<const float> in(input.data(), 2 * width);
  const std::span<float> to_logits(logits.mutable_data(), static_cast<std::size_t>(logits.size()));
  const std::span<float> to_vector(vector.mutable_data(), width);
  WithoutGil(*drafter.target().workers,
             [&](const Parallel::StopCheck& stop) { drafter.Step(decoder, in, to_logits, to_vector, stop); });
  return py::make_tuple(logits, vector);
}

}  // namespace

void BindDrafter(py::module_& module, py::module_& testing) {
  module.attr("MOST_DRAFTS") = Decoder::kLogitGroup - 1;
  py::class_<DrafterCheckpoint, std::shared_ptr<DrafterCheckpoint>>(module, "DraftModel")
      .def_static(
          "load",
          [](const Path& path, const std::shared_ptr<Checkpoint>& target, const std::string& activations) {
            const GilReleased nogil;
            return std::const_pointer_cast<DrafterCheckpoint>(
                LoadDrafter(path.string(), target, {.activations = activations}));
          },
          py::arg("path"), py::arg("target").none(false), py::arg("activations"))
      .def_property_readonly("info", &Info);
  py::class_<Drafter>(module, "Drafter")
      .def(py::init([](const std::shared_ptr<DrafterCheckpoint>& model) {
             return std::make_unique<Drafter>(ModelOf(model->target), ModelOf(model));
           }),
           py::arg("model").none(false))
      .def("draft", &Draft, py::arg("decoder"), py::arg("token"), py::arg("count"));
  testing.def("draft_step", &Step, py::arg("drafter"), py::arg("decoder"), py::arg("inputs").noconvert());
}

}  // namespace gemmule
