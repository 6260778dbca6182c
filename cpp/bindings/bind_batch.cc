#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.h"
#include "bindings/bind.h"
#include "engine/batch.h"
#include "engine/load.h"

namespace gemmule {
namespace {

std::span<float> View(Floats& logits) { return {logits.mutable_data(), static_cast<std::size_t>(logits.size())}; }

Floats Prefill(Batch& batch, Decoder& decoder, const Tokens& tokens) {
  const auto ids = Ids(tokens);
  Floats logits(static_cast<py::ssize_t>(batch.model().config.vocab_size));
  const auto out = View(logits);
  WithoutGil(*batch.model().workers, [&](const Parallel::StopCheck& stop) { batch.Prefill(decoder, ids, out, stop); });
  return logits;
}

void Read(Batch& batch, Decoder& decoder, const Tokens& tokens) {
  const auto ids = Ids(tokens);
  WithoutGil(*batch.model().workers, [&](const Parallel::StopCheck& stop) { batch.Read(decoder, ids, stop); });
}

Floats Step(Batch& batch, const std::vector<std::shared_ptr<Decoder>>& decoders, const Tokens& tokens) {
  const auto sequences = Pointers(decoders);
  const auto ids = Ids(tokens);
  Floats logits(
      {static_cast<py::ssize_t>(sequences.size()), static_cast<py::ssize_t>(batch.model().config.vocab_size)});
  const auto out = View(logits);
  WithoutGil(*batch.model().workers, [&](const Parallel::StopCheck& stop) { batch.Step(sequences, ids, out, stop); });
  return logits;
}

std::vector<std::int32_t> Sample(Batch& batch, const std::vector<std::shared_ptr<Sampler>>& samplers,
                                 const std::vector<Floats>& logits, const std::vector<Tokens>& histories) {
  const auto pointers = Pointers(samplers);
  std::vector<std::span<const float>> rows;
  for (const Floats& row : logits) rows.push_back(LogitRow(row));
  std::vector<std::vector<std::int32_t>> seen;
  for (const Tokens& history : histories) seen.push_back(Ids(history));
  const std::vector<std::span<const std::int32_t>> views(seen.begin(), seen.end());
  std::vector<std::int32_t> ids(pointers.size());
  WithoutGil(*batch.model().workers,
             [&](const Parallel::StopCheck& stop) { batch.Sample(pointers, rows, views, ids, stop); });
  return ids;
}

}  // namespace

void BindBatch(py::module_& module) {
  py::class_<Batch>(module, "Batch")
      .def(py::init([](const std::shared_ptr<Checkpoint>& checkpoint) {
             return std::make_unique<Batch>(ModelOf(checkpoint));
           }),
           py::arg("model").none(false))
      .def("prefill", &Prefill, py::arg("decoder"), py::arg("ids").noconvert())
      .def("read", &Read, py::arg("decoder"), py::arg("ids").noconvert())
      .def("step", &Step, py::arg("decoders"), py::arg("ids").noconvert())
      .def("sample", &Sample, py::arg("samplers"), py::arg("logits").noconvert(), py::arg("histories").noconvert());
}

}  // namespace gemmule
