// A Hugging Face checkpoint folder: config.json and one or several safetensors files.
#pragma once

#include <string>

#include "formats/json.h"
#include "formats/tensor_files.h"

namespace gemmule {

struct CheckpointFiles {
  std::string config_path;
  JsonValue config;
  TensorFiles weights;
};

// Opens and checks all files of `folder`: model.safetensors if it is there, else the shards that
// model.safetensors.index.json names. Throws ResourceError when the folder is missing, UnsupportedError when it holds
// weights of another format only, FormatError for everything else that is wrong.
CheckpointFiles OpenCheckpoint(const std::string& folder);

}  // namespace gemmule
