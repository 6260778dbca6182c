#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "bindings/bind.h"
#include "engine/sampler.h"
#include "kernels/log_sum_exp.h"
#include "kernels/masked.h"

namespace gemmule {
namespace {

double LogProbability(const Floats& logits, std::int32_t token) {
  const auto row = LogitRow(logits);
  if (token < 0 || static_cast<std::size_t>(token) >= row.size()) throw ArgumentError("token id out of range");
  return row[static_cast<std::size_t>(token)] - LogSumExp(row);
}

Floats MaskedLogits(const Floats& logits, const py::array_t<std::uint8_t, py::array::c_style>& bits) {
  const auto row = LogitRow(logits);
  const std::size_t bytes = (row.size() + 7) / 8;
  if (bits.ndim() != 1 || static_cast<std::size_t>(bits.size()) != bytes) {
    throw ArgumentError("bits: want " + std::to_string(bytes) + " bytes");
  }
  Floats out(logits.size());
  Masked(row, {bits.data(), bytes}, {out.mutable_data(), row.size()});
  return out;
}

}  // namespace

std::span<const float> LogitRow(const Floats& logits) {
  if (logits.ndim() != 1 || logits.size() == 0) throw ArgumentError("logits: want shape (V,), V >= 1");
  const float* const data = static_cast<const float*>(static_cast<const py::array&>(logits).data());
  if (reinterpret_cast<std::uintptr_t>(data) % alignof(float) != 0) {
    throw ArgumentError("logits: want an array whose elements are aligned");
  }
  return {data, static_cast<std::size_t>(logits.size())};
}

void BindSampler(py::module_& module) {
  py::class_<Sampler, std::shared_ptr<Sampler>>(module, "Sampler")
      .def(py::init([](double temperature, std::size_t top_k, double top_p, double min_p, double repetition_penalty,
                       std::uint64_t seed) {
             return std::make_shared<Sampler>(
                 SamplerOptions{temperature, top_k, top_p, min_p, repetition_penalty, seed});
           }),
           py::kw_only(), py::arg("temperature"), py::arg("top_k"), py::arg("top_p"), py::arg("min_p"),
           py::arg("repetition_penalty"), py::arg("seed"))
      .def(
          "sample",
          [](Sampler& sampler, const Floats& logits, const Tokens& history) {
            return sampler.Sample(LogitRow(logits), Ids(history));
          },
          py::arg("logits").noconvert(), py::arg("history").noconvert());
  module.def("masked", &MaskedLogits, py::arg("logits").noconvert(), py::arg("bits").noconvert());
  module.def("log_probability", &LogProbability, py::arg("logits").noconvert(), py::arg("token"));
}

}  // namespace gemmule
