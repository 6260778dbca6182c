#include <map>
#include <memory>
#include <string>

#include "bindings/bind.h"
#include "engine/load.h"

namespace gemmule {
namespace {

py::list LayerTypes(const Config& config) {
  py::list types;
  for (const LayerConfig& layer : config.layers) {
    types.append(layer.type == LayerType::kFull ? "full_attention" : "sliding_attention");
  }
  return types;
}

py::dict ConfigDict(const Config& config) {
  py::dict dict;
  dict["vocab_size"] = config.vocab_size;
  dict["hidden_size"] = config.hidden_size;
  dict["hidden_size_per_layer_input"] = config.hidden_size_per_layer_input;
  dict["num_hidden_layers"] = config.layers.size();
  dict["num_attention_heads"] = config.num_attention_heads;
  dict["num_kv_shared_layers"] = config.num_kv_shared_layers;
  dict["sliding_window"] = config.sliding_window;
  dict["max_position_embeddings"] = config.max_position_embeddings;
  dict["final_logit_softcapping"] = config.final_logit_softcapping;
  dict["tie_word_embeddings"] = config.tie_word_embeddings;
  dict["layer_types"] = LayerTypes(config);
  return dict;
}

py::dict Info(const Checkpoint& checkpoint) {
  std::map<std::string, int> encodings;
  ForEachLinear(checkpoint.model.weights,
                [&](const Linear& linear) { ++encodings[std::string(Name(linear.weight.encoding))]; });
  py::dict info;
  info["model_type"] = checkpoint.model_type;
  info["parameters"] = checkpoint.parameters;
  info["weight_bytes"] = checkpoint.weight_bytes;
  info["mapped_bytes"] = checkpoint.files.MappedBytes();
  info["config"] = ConfigDict(checkpoint.model.config);
  info["encodings"] = py::cast(encodings);
  info["unknown_tensors"] = py::cast(checkpoint.unknown_tensors);
  info["leftover_tensors"] = py::cast(checkpoint.leftover_tensors);
  info["skipped_tensors"] = py::cast(checkpoint.skipped_tensors);
  return info;
}

const char* ActivationsName(const Checkpoint& checkpoint) {
  bool scaled = false;
  ForEachLinear(checkpoint.model.weights, [&](const Linear& linear) { scaled = scaled || linear.input_scale != 0.0f; });
  if (checkpoint.model.products == Products::kFloat32) return "float32";
  return scaled ? "static" : "int8";
}

const char* KvName(const Checkpoint& checkpoint) {
  switch (checkpoint.model.kv) {
    case KvMode::kFloat32: return "float32";
    case KvMode::kBf16: return "bf16";
    case KvMode::kStatic: return "static";
  }
  return "?";
}

std::shared_ptr<const Checkpoint> Load(const std::string& folder, int threads, std::size_t context,
                                       const std::string& activations, const std::string& kv) {
  const py::gil_scoped_release nogil;
  return LoadCheckpoint(folder, {.threads = threads, .context = context, .activations = activations, .kv = kv});
}

}  // namespace

void BindModel(py::module_& module) {
  py::class_<Checkpoint, std::shared_ptr<Checkpoint>>(module, "Model")
      .def_static(
          "load",
          [](const std::string& folder, int threads, std::size_t context, const std::string& activations,
             const std::string& kv) {
            return std::const_pointer_cast<Checkpoint>(Load(folder, threads, context, activations, kv));
          },
          py::arg("folder"), py::arg("threads"), py::arg("context"), py::arg("activations"), py::arg("kv"))
      .def_property_readonly("vocab_size", [](const Checkpoint& c) { return c.model.config.vocab_size; })
      .def_property_readonly("hidden_size", [](const Checkpoint& c) { return c.model.config.hidden_size; })
      .def_property_readonly("num_layers", [](const Checkpoint& c) { return c.model.config.layers.size(); })
      .def_property_readonly("context", [](const Checkpoint& c) { return c.model.context; })
      .def_property_readonly("threads", [](const Checkpoint& c) { return c.model.workers->threads(); })
      .def_property_readonly("activations", &ActivationsName)
      .def_property_readonly("kv", &KvName)
      .def_property_readonly("info", &Info);
}

}  // namespace gemmule
