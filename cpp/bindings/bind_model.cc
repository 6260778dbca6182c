#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/bind.h"
#include "engine/fingerprint.h"
#include "engine/gguf_text.h"
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

py::list Layers(const Config& config) {
  py::list layers;
  for (const LayerConfig& layer : config.layers) {
    py::dict dict;
    dict["head_dim"] = layer.head_dim;
    dict["num_key_value_heads"] = layer.num_key_value_heads;
    dict["intermediate_size"] = layer.intermediate_size;
    dict["has_v_proj"] = layer.has_v_proj;
    dict["kv_owner"] = layer.kv_owner;
    layers.append(dict);
  }
  return layers;
}

py::dict Rope(const RopeParameters& rope) {
  py::dict dict;
  dict["rope_theta"] = rope.rope_theta;
  dict["partial_rotary_factor"] = rope.partial_rotary_factor;
  dict["factor"] = rope.factor;
  return dict;
}

}  // namespace

py::dict ConfigDict(const Config& config) {
  py::dict dict;
  dict["vocab_size"] = config.vocab_size;
  dict["vocab_size_per_layer_input"] = config.vocab_size_per_layer_input;
  dict["hidden_size"] = config.hidden_size;
  dict["hidden_size_per_layer_input"] = config.hidden_size_per_layer_input;
  dict["num_hidden_layers"] = config.layers.size();
  dict["num_attention_heads"] = config.num_attention_heads;
  dict["num_kv_shared_layers"] = config.num_kv_shared_layers;
  dict["sliding_window"] = config.sliding_window;
  dict["max_position_embeddings"] = config.max_position_embeddings;
  dict["final_logit_softcapping"] = config.final_logit_softcapping;
  dict["tie_word_embeddings"] = config.tie_word_embeddings;
  dict["rms_norm_eps"] = config.rms_norm_eps;
  dict["rope_sliding"] = Rope(config.rope_sliding);
  dict["rope_full"] = Rope(config.rope_full);
  dict["num_experts"] = config.num_experts;
  dict["top_k_experts"] = config.top_k_experts;
  dict["moe_intermediate_size"] = config.moe_intermediate_size;
  dict["layer_types"] = LayerTypes(config);
  dict["layers"] = Layers(config);
  return dict;
}

namespace {

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

// Metadata of more elements than this (a vocabulary) stays out of Python.
constexpr std::size_t kMostElements = 1024;

// Text from a file, which nobody has checked to be UTF-8.
py::str Text(std::string_view text) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "replace"));
}

py::object ToPython(const GgufValue& value) {
  if (value.IsArray()) {
    py::list list;
    if (value.type() == GgufType::kString) {
      for (const std::string_view text : value.Strings()) list.append(Text(text));
    } else {
      for (std::size_t i = 0; i < value.size(); ++i) list.append(ToPython(value.Child(i)));
    }
    return list;
  }
  switch (value.type()) {
    case GgufType::kString: return Text(value.String());
    case GgufType::kBool: return py::bool_(value.Bool());
    case GgufType::kF32:
    case GgufType::kF64: return py::float_(value.Number());
    case GgufType::kU64: return py::int_(value.Unsigned());
    default: return py::int_(value.Int());
  }
}

py::dict Metadata(const Checkpoint& checkpoint) {
  return ReadAgain(checkpoint.files.files, [&] {
    py::dict dict;
    for (const GgufValue& value : checkpoint.metadata.values()) {
      if (value.size() <= kMostElements) dict[py::str(value.key())] = ToPython(value);
    }
    return dict;
  });
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

std::shared_ptr<const Checkpoint> Load(const Path& path, int threads, std::size_t context,
                                       const std::string& activations, const std::string& kv) {
  const GilReleased nogil;
  return LoadCheckpoint(path.string(), {.threads = threads, .context = context, .activations = activations, .kv = kv});
}

}  // namespace

void BindModel(py::module_& module) {
  py::class_<Checkpoint, std::shared_ptr<Checkpoint>>(module, "Model")
      .def_static(
          "load",
          [](const Path& path, int threads, std::size_t context, const std::string& activations,
             const std::string& kv) {
            return std::const_pointer_cast<Checkpoint>(Load(path, threads, context, activations, kv));
          },
          py::arg("path"), py::arg("threads"), py::arg("context"), py::arg("activations"), py::arg("kv"))
      .def_property_readonly("vocab_size", [](const Checkpoint& c) { return c.model.config.vocab_size; })
      .def_property_readonly("hidden_size", [](const Checkpoint& c) { return c.model.config.hidden_size; })
      .def_property_readonly("num_layers", [](const Checkpoint& c) { return c.model.config.layers.size(); })
      .def_property_readonly("context", [](const Checkpoint& c) { return c.model.context; })
      .def_property_readonly("threads", [](const Checkpoint& c) { return c.model.workers->threads(); })
      .def_property_readonly("activations", &ActivationsName)
      .def_property_readonly("kv", &KvName)
      .def_property_readonly("metadata", &Metadata)
      .def("gguf_tokenizer",
           [](const Checkpoint& c) {
             const GilReleased nogil;
             return ReadAgain(c.files.files, [&] { return ReadGgufTokenizer(c.metadata); });
           })
      .def("fingerprint",
           [](const Checkpoint& c) {
             std::vector<std::byte> print;
             {
               const GilReleased nogil;
               print = Fingerprint(c);
             }
             return py::bytes(reinterpret_cast<const char*>(print.data()), print.size());
           })
      .def_property_readonly("end_tokens", [](const Checkpoint& c) { return c.end_tokens; })
      .def_property_readonly("info", &Info);
}

}  // namespace gemmule
