// What lies in a checkpoint's files, for the parts of gemmule that look at it without running it.
#include "base/error.h"
#include "bindings/bind.h"
#include "engine/gguf_config.h"
#include "engine/gguf_tensors.h"
#include "engine/gguf_text.h"
#include "engine/load.h"
#include "formats/checkpoint_files.h"
#include "formats/gguf_files.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "formats/stand_in.h"
#include "kernels/kv_block.h"
#include "model/forward.h"
#include "quant/block_look.h"

namespace gemmule {
namespace {

// (name, dtype as the file spells it, shape, offset in bytes, size in bytes, path of the file) of every tensor.
py::list Listed(const TensorFiles& weights) {
  py::list list;
  for (const TensorView& tensor : weights.tensors) {
    list.append(py::make_tuple(tensor.name, tensor.dtype_name, py::tuple(py::cast(tensor.shape)), tensor.offset,
                               tensor.bytes.size(), FileText(weights.files[tensor.file]->path())));
  }
  return list;
}

py::list Tensors(const Path& folder) { return Listed(OpenCheckpoint(folder.string()).weights); }

py::list FileTensors(const Path& path) {
  auto file = std::make_shared<const MappedFile>(MappedFile::Open(path.string()));
  RefuseStandIn(*file);
  TensorFiles files;
  files.Add(file, ReadSafetensors(*file, 0));
  files.SortByName();
  return Listed(files);
}

Config ConfigOf(const GgufFiles& files) {
  GgufTensors tensors(files);
  return ReadGgufConfig(files, tensors);
}

// What the headers of a GGUF model say.
struct GgufHeaders {
  explicit GgufHeaders(const Path& path) : files(OpenGguf(path.string())), config(ConfigOf(files)) {}

  GgufFiles files;
  Config config;
};

py::list Paths(const GgufHeaders& headers) {
  py::list paths;
  for (const auto& file : headers.files.weights.files) paths.append(FileText(file->path()));
  return paths;
}

py::dict HfNames(const GgufHeaders& headers) {
  py::dict names;
  for (const TensorView& tensor : headers.files.weights.tensors) {
    names[py::str(tensor.name)] = GgufTensors::HfName(tensor.name);
  }
  return names;
}

py::tuple SizesOfVocabulary(const GgufHeaders& headers) {
  const VocabularySize size =
      ReadAgain(headers.files.weights.files, [&] { return SizeOfVocabulary(headers.files.metadata); });
  return py::make_tuple(size.tokens, size.text_bytes, size.merges);
}

// `blocks`, which must be whole.
std::span<const std::byte> Blocks(const Bytes& blocks, Encoding encoding) {
  const auto bytes = static_cast<std::size_t>(blocks.nbytes());
  if (!HoldsScales(encoding)) throw ArgumentError("encoding: want blocks that hold their scales");
  if (bytes % BlockBytes(encoding) != 0) throw ArgumentError("blocks: the last one is not whole");
  return std::as_bytes(std::span(blocks.data(), bytes));
}

Bytes RunMarkBlocks(const Bytes& blocks, const std::string& name) {
  const Encoding encoding = EncodingNamed(name);
  const auto view = Blocks(blocks, encoding);
  Bytes marks(static_cast<py::ssize_t>(view.size() / BlockBytes(encoding)));
  const std::span<std::uint8_t> out(marks.mutable_data(), static_cast<std::size_t>(marks.size()));
  const GilReleased nogil;
  MarkBlocks(encoding, view, out);
  return marks;
}

py::array_t<std::int64_t, py::array::c_style> RunCountCodes(const Bytes& blocks, const std::string& name) {
  const Encoding encoding = EncodingNamed(name);
  const auto view = Blocks(blocks, encoding);
  return ArrayOf(CountCodes(encoding, view));
}

}  // namespace

py::str FileText(const std::string& path) {
  PyObject* const decoded = PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<py::ssize_t>(path.size()));
  if (decoded == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

py::object ToPython(const JsonValue& value) {
  struct Visitor {
    py::object operator()(std::monostate) const { return py::none(); }
    py::object operator()(bool x) const { return py::bool_(x); }
    py::object operator()(std::int64_t x) const { return py::int_(x); }
    py::object operator()(double x) const { return py::float_(x); }
    py::object operator()(const std::string& x) const { return py::str(x); }
    py::object operator()(const JsonValue::Array& x) const {
      py::list list;
      for (const JsonValue& element : x) list.append(ToPython(element));
      return list;
    }
    py::object operator()(const JsonValue::Object& x) const {
      py::dict dict;
      for (const JsonMember& member : x) dict[py::str(member.key)] = ToPython(member.value);
      return dict;
    }
  };
  return std::visit(Visitor(), value.data);
}

Encoding EncodingNamed(const std::string& name) {
  for (const Encoding e : kEncodings) {
    if (Name(e) == name) return e;
  }
  throw ArgumentError("unknown encoding " + name);
}

void BindFiles(py::module_& module) {
  module.def("tensors", &Tensors, py::arg("folder"));
  module.def("file_tensors", &FileTensors, py::arg("path"));
  module.def(
      "check_checkpoint", [](const Path& path) { LoadCheckpoint(path.string(), {.threads = 1}); }, py::arg("path"),
      py::call_guard<GilReleased>());
  module.def(
      "refuse_stand_in", [](const Path& path) { RefuseStandIn(MappedFile::Open(path.string())); }, py::arg("path"));
  module.def("read_json", [](const Path& path) { return ToPython(ReadJsonFile(path.string())); }, py::arg("path"));
  py::class_<GgufHeaders>(module, "GgufHeaders")
      .def(py::init<const Path&>(), py::arg("path"), py::call_guard<GilReleased>())
      .def_property_readonly("files", &Paths)
      .def_property_readonly("architecture",
                             [](const GgufHeaders& headers) {
                               return ReadAgain(headers.files.weights.files,
                                                [&] { return ReadArchitecture(headers.files.metadata); });
                             })
      .def_property_readonly("config", [](const GgufHeaders& headers) { return ConfigDict(headers.config); })
      .def_property_readonly("tensors", [](const GgufHeaders& headers) { return Listed(headers.files.weights); })
      .def_property_readonly("hf_names", &HfNames)
      .def_property_readonly("vocabulary", &SizesOfVocabulary);
  module.def("mark_blocks", &RunMarkBlocks, py::arg("blocks"), py::arg("encoding"));
  module.def("count_codes", &RunCountCodes, py::arg("blocks"), py::arg("encoding"));
  module.attr("NOT_FINITE") = kMarkNotFinite;
  module.attr("ZERO") = kMarkZero;
  module.attr("LOWEST") = kMarkLowest;
  module.attr("HIGHEST") = kMarkHighest;
  // What memory is counted in: see gemmule.estimate.
  module.attr("CHUNK_TOKENS") = Forward::kChunk;
  module.attr("KV_BLOCK_TOKENS") = KvView::kBlock;
}

}  // namespace gemmule
