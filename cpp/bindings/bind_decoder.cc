#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "base/error.h"
#include "bindings/bind.h"
#include "engine/compare.h"
#include "engine/load.h"

namespace gemmule {
namespace {

Floats Prefill(Decoder& decoder, const Tokens& tokens) {
  const auto ids = Ids(tokens);
  Floats logits(static_cast<py::ssize_t>(decoder.model().config.vocab_size));
  const std::span<float> out(logits.mutable_data(), static_cast<std::size_t>(logits.size()));
  WithoutGil(*decoder.model().workers, [&](const Parallel::StopCheck& stop) { decoder.Prefill(ids, out, stop); });
  return logits;
}

void Read(Decoder& decoder, const Tokens& tokens) {
  const auto ids = Ids(tokens);
  WithoutGil(*decoder.model().workers, [&](const Parallel::StopCheck& stop) { decoder.Read(ids, stop); });
}

Floats Logits(Decoder& decoder, const Tokens& tokens) {
  const auto ids = Ids(tokens);
  Floats logits({tokens.size(), static_cast<py::ssize_t>(decoder.model().config.vocab_size)});
  const std::span<float> out(logits.mutable_data(), static_cast<std::size_t>(logits.size()));
  WithoutGil(*decoder.model().workers, [&](const Parallel::StopCheck& stop) { decoder.Logits(ids, out, stop); });
  return logits;
}

Floats Hidden(Decoder& decoder, const Tokens& tokens, std::size_t wanted) {
  const auto ids = Ids(tokens);
  const std::size_t width = decoder.model().config.hidden_size;
  Floats hidden({static_cast<py::ssize_t>(std::min(wanted, ids.size())), static_cast<py::ssize_t>(width)});
  const std::span<float> out(hidden.mutable_data(), static_cast<std::size_t>(hidden.size()));
  WithoutGil(*decoder.model().workers,
             [&](const Parallel::StopCheck& stop) { decoder.Hidden(ids, wanted, out, stop); });
  return hidden;
}

// One value for each of ids[first], ...; how many there must be is checked with the ids.
template <class T>
py::array_t<T> ValuesFrom(std::span<const std::int32_t> ids, std::size_t first) {
  return py::array_t<T>(static_cast<py::ssize_t>(ids.size() - std::min(first, ids.size())));
}

template <class T>
std::span<T> View(py::array_t<T>& values) {
  return {values.mutable_data(), static_cast<std::size_t>(values.size())};
}

py::array_t<double> Score(Decoder& decoder, const Tokens& tokens, std::size_t first) {
  const auto ids = Ids(tokens);
  auto scores = ValuesFrom<double>(ids, first);
  const auto out = View(scores);
  WithoutGil(*decoder.model().workers, [&](const Parallel::StopCheck& stop) { decoder.Score(ids, first, out, stop); });
  return scores;
}

py::tuple RunCompare(Decoder& model, Decoder& reference, const Tokens& tokens, std::size_t first) {
  const auto ids = Ids(tokens);
  auto nll = ValuesFrom<double>(ids, first);
  auto reference_nll = ValuesFrom<double>(ids, first);
  auto kl = ValuesFrom<double>(ids, first);
  auto same_top = ValuesFrom<bool>(ids, first);
  const Comparison out{View(nll), View(reference_nll), View(kl), View(same_top)};
  WithoutGil(*model.model().workers,
             [&](const Parallel::StopCheck& stop) { Compare(model, reference, ids, first, out, stop); });
  return py::make_tuple(nll, reference_nll, kl, same_top);
}

py::list Extents(const Decoder& decoder, std::size_t length) {
  py::list list;
  for (const KvCache::Extent& extent : decoder.Extents(length)) {
    py::dict dict;
    dict["layer"] = extent.layer;
    dict["encoding"] = Name(extent.encoding);
    dict["num_key_value_heads"] = extent.num_key_value_heads;
    dict["head_dim"] = extent.head_dim;
    dict["first"] = extent.first;
    dict["bytes"] = extent.bytes;
    list.append(dict);
  }
  return list;
}

Bytes Export(Decoder& decoder, std::size_t i) {
  const auto extents = decoder.Extents(decoder.length());
  Bytes state(static_cast<py::ssize_t>(i < extents.size() ? extents[i].bytes : 0));
  const std::span<std::uint8_t> out(state.mutable_data(), static_cast<std::size_t>(state.size()));
  const GilReleased nogil;
  decoder.Export(i, std::as_writable_bytes(out));
  return state;
}

std::shared_ptr<Decoder> FromStates(const std::shared_ptr<Checkpoint>& checkpoint, std::size_t length,
                                    const std::vector<Bytes>& states) {
  std::vector<std::span<const std::byte>> views;
  for (const Bytes& state : states) {
    views.push_back(std::as_bytes(std::span(state.data(), static_cast<std::size_t>(state.size()))));
  }
  const GilReleased nogil;
  return Decoder::FromStates(ModelOf(checkpoint), length, views);
}

}  // namespace

std::vector<std::int32_t> Ids(const Tokens& tokens) {
  if (tokens.ndim() != 1) {
    throw ArgumentError("ids: want shape (T,), got " + std::to_string(tokens.ndim()) + " dimensions");
  }
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens.size()));
  // By the byte: an array may lie askew.
  if (!ids.empty()) std::memcpy(ids.data(), static_cast<const py::array&>(tokens).data(), ids.size() * sizeof ids[0]);
  return ids;
}

Parallel::StopCheck AskForSignals() {
  using Clock = std::chrono::steady_clock;
  return [next = Clock::now()]() mutable {
    if (Clock::now() < next) return false;
    bool raised = false;
    {
      const GilTaken gil;
      raised = PyErr_CheckSignals() != 0;
    }
    next = Clock::now() + std::chrono::milliseconds(20);
    return raised;
  };
}

void WarnOfFork(const Workers& workers) {
  static std::uint32_t warned = 0;  // Forks() then; never 0 in a fork
  if (!workers.left_behind() || workers.threads() == 1 || warned == Forks()) return;
  warned = Forks();
  const PythonRuns python;
  const int raised = PyErr_WarnEx(
      PyExc_RuntimeWarning,
      "this process is a fork of the one that loaded the model, whose threads stayed there: it computes on one thread. "
      "Load the model in the child, or start processes with multiprocessing.get_context(\"spawn\").",
      1);
  if (raised != 0) throw py::error_already_set();
}

void BindDecoder(py::module_& module) {
  py::class_<Decoder, std::shared_ptr<Decoder>>(module, "Decoder")
      .def(py::init([](const std::shared_ptr<Checkpoint>& checkpoint) {
             return std::make_shared<Decoder>(ModelOf(checkpoint));
           }),
           py::arg("model").none(false))
      .def_property_readonly("length", &Decoder::length)
      .def_property_readonly("cache_bytes", &Decoder::cache_bytes)
      .def("prefill", &Prefill, py::arg("ids").noconvert())
      .def("read", &Read, py::arg("ids").noconvert())
      .def("logits", &Logits, py::arg("ids").noconvert())
      .def("hidden", &Hidden, py::arg("ids").noconvert(), py::arg("wanted"))
      .def("score", &Score, py::arg("ids").noconvert(), py::arg("first"))
      .def("compare", &RunCompare, py::arg("reference"), py::arg("ids").noconvert(), py::arg("first"))
      .def("rewind", &Decoder::Rewind, py::arg("length"))
      .def("fork", &Decoder::Fork)
      .def("extents", &Extents, py::arg("length"))
      .def("export_state", &Export, py::arg("i"))
      .def_static("from_states", &FromStates, py::arg("model").none(false), py::arg("length"), py::arg("states"))
      .def_static(
          "shared_cache_bytes",
          [](const std::vector<std::shared_ptr<Decoder>>& decoders) { return Decoder::CacheBytes(Pointers(decoders)); },
          py::arg("decoders"));
}

}  // namespace gemmule
