// A Hugging Face checkpoint folder: config.json and one or several safetensors files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "formats/json.h"
#include "formats/mapped_file.h"

namespace gemmule {

struct CheckpointFiles {
  std::string config_path;
  JsonValue config;
  std::vector<std::shared_ptr<const MappedFile>> files;  // TensorView::file counts these
  std::vector<TensorView> tensors;                       // sorted by name, each name once

  // Null where the checkpoint has no such tensor. Points into `tensors`.
  const TensorView* Find(std::string_view name) const;
  // Reads the rows (first dimension) of one of `tensors` from its file. Throws FormatError for one without rows.
  std::unique_ptr<RowSource> Rows(const TensorView& tensor) const;
  std::uint64_t MappedBytes() const;
};

// Opens and checks all files of `folder`: model.safetensors if it is there, else the shards that
// model.safetensors.index.json names. Throws ResourceError when the folder is missing, UnsupportedError when it holds
// weights of another format only, FormatError for everything else that is wrong.
CheckpointFiles OpenCheckpoint(const std::string& folder);

}  // namespace gemmule
