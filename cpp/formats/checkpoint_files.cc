#include "formats/checkpoint_files.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "formats/mapped_file.h"
#include "formats/safetensors.h"

namespace gemmule {
namespace {

namespace fs = std::filesystem;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr char kDownloadAgain[] = "Download the whole checkpoint again.";

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void CheckFolder(const std::string& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (status.type() == fs::file_type::not_found) {
    throw ResourceError("the checkpoint is missing", "Check the path.", {.file = folder});
  }
  if (error)
    throw ResourceError("the checkpoint cannot be opened: " + error.message(), "Check the path and its permissions.",
                        {.file = folder});
  if (!fs::is_directory(status)) {
    throw ResourceError("the checkpoint is not a folder", "Give the folder that holds config.json and the weights.",
                        {.file = folder});
  }
}

// A folder without safetensors: says what it holds instead.
[[noreturn]] void FailWithoutWeights(const std::string& folder) {
  std::error_code error;
  bool pickle = false;
  bool gguf = false;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    gguf |= name.ends_with(".gguf");
    pickle |= name.starts_with("pytorch_model") && name.find(".bin") != std::string::npos;
  }
  if (pickle) {
    throw UnsupportedError("the weights are a PyTorch pickle (pytorch_model.bin), which can run code when opened",
                           "Take the checkpoint's safetensors files, or convert it with transformers: "
                           "model.save_pretrained(folder, safe_serialization=True).",
                           {.file = folder, .expected = kSingleFile, .found = "pytorch_model.bin"});
  }
  if (gguf) {
    throw FormatError("the folder holds GGUF files, but no safetensors files",
                      {.file = folder, .expected = kSingleFile, .found = "GGUF files"},
                      "Give the path of the GGUF file itself.");
  }
  throw FormatError(
      "the folder holds no weights",
      {.file = folder, .expected = std::string(kSingleFile) + " or " + kIndexFile, .found = "neither of them"},
      kDownloadAgain);
}

// A shard's name leads nowhere but into the folder.
void CheckShardName(const JsonCursor& shard) {
  const std::string& name = shard.String();
  const bool plain = !name.empty() && name != "." && name != ".." && std::none_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
  });
  if (!plain) shard.Fail("a shard's name is not a plain file name", "a file of the checkpoint's folder");
}

// What the index says: the shards' names in order of appearance, and the shard of every tensor.
struct Index {
  std::string path;
  std::vector<std::string> shards;
  std::map<std::string, std::size_t, std::less<>> shard_of;
};

Index ReadIndex(const std::string& path) {
  Index index{.path = path, .shards = {}, .shard_of = {}};
  const JsonValue root = ReadJsonFile(path);
  const JsonCursor weight_map = JsonCursor(root, path).At("weight_map");
  std::map<std::string, std::size_t, std::less<>> numbers;  // of the shards
  for (const JsonMember& member : weight_map.Object()) {
    const JsonCursor shard = weight_map.Child(member);
    CheckShardName(shard);
    const auto [number, is_new] = numbers.emplace(shard.String(), index.shards.size());
    if (is_new) index.shards.push_back(shard.String());
    index.shard_of.emplace(member.key, number->second);
  }
  if (index.shards.empty()) weight_map.Fail("the index lists no tensor", "at least one");
  return index;
}

void AddFile(const std::string& path, TensorFiles& weights) {
  auto file = std::make_shared<const MappedFile>(MappedFile::Open(path));
  std::vector<TensorView> tensors = ReadSafetensors(*file, weights.files.size());
  weights.Add(std::move(file), std::move(tensors));
}

// The index and the shards tell of the same tensors.
void CheckIndex(const Index& index, const TensorFiles& weights) {
  for (const TensorView& tensor : weights.tensors) {
    const auto listed = index.shard_of.find(tensor.name);
    if (listed == index.shard_of.end()) {
      throw FormatError("the index does not list a tensor of this shard", {.file = weights.files[tensor.file]->path(),
                                                                           .tensor = tensor.name,
                                                                           .offset = tensor.offset,
                                                                           .expected = "an entry in " + index.path,
                                                                           .found = "none"});
    }
    if (listed->second != tensor.file) {
      throw FormatError("the tensor is not in the shard that the index names",
                        {.file = index.path,
                         .tensor = tensor.name,
                         .expected = weights.files[listed->second]->path(),
                         .found = weights.files[tensor.file]->path()});
    }
  }
  for (const auto& [name, shard] : index.shard_of) {
    if (weights.Find(name)) continue;
    throw FormatError("a tensor that the index lists is missing",
                      {.file = weights.files[shard]->path(),
                       .tensor = name,
                       .expected = "the tensor",
                       .found = "no tensor of this name"},
                      kDownloadAgain);
  }
}

}  // namespace

CheckpointFiles OpenCheckpoint(const std::string& folder) {
  CheckFolder(folder);
  const fs::path root(folder);
  const bool single = Exists(root / kSingleFile);  // the single file wins over an index, as in transformers
  if (!single && !Exists(root / kIndexFile)) FailWithoutWeights(folder);

  CheckpointFiles checkpoint;
  checkpoint.config_path = (root / "config.json").string();
  if (!Exists(checkpoint.config_path)) {
    throw FormatError("the folder holds no config.json",
                      {.file = folder, .expected = checkpoint.config_path, .found = "no such file"}, kDownloadAgain);
  }
  checkpoint.config = ReadJsonFile(checkpoint.config_path);

  if (single) {
    AddFile((root / kSingleFile).string(), checkpoint.weights);
    checkpoint.weights.SortByName();
    return checkpoint;
  }
  const Index index = ReadIndex((root / kIndexFile).string());
  for (const std::string& shard : index.shards) {
    if (!Exists(root / shard)) {
      throw FormatError("a shard that the index names is missing",
                        {.file = index.path, .expected = (root / shard).string(), .found = "no such file"},
                        kDownloadAgain);
    }
    AddFile((root / shard).string(), checkpoint.weights);
  }
  checkpoint.weights.SortByName();
  CheckIndex(index, checkpoint.weights);
  return checkpoint;
}

}  // namespace gemmule
