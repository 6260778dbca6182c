// A checkpoint to a Model: the one place where file formats meet the model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/tensor_files.h"
#include "model/draft_model.h"
#include "model/model.h"

namespace gemmule {

struct LoadOptions {
  int threads = 0;                   // 0: DefaultThreads()
  std::size_t context = 0;           // tokens; 0: the checkpoint's maximum
  std::string activations = "auto";  // "auto", "float32", "int8"
  std::string kv = "auto";           // "auto", "float32", "bf16", "static"
  bool activation_scales = true;     // false: activations are not rounded: to calibrate them
  bool unused_too = false;           // also view keys and values of layers that share another's: to convert them
};

// A Model and what belongs to it: the mapped files its views point into, and an account of what they hold.
struct Checkpoint {
  TensorFiles files;
  Model model;
  std::string model_type;                // of config.json; of a GGUF file, its architecture
  GgufMetadata metadata;                 // of a GGUF file, else empty
  std::vector<std::int64_t> end_tokens;  // likewise: ids that end a text
  std::uint64_t parameters = 0;          // of the text model's matrices and vectors in use; a tied table counts once
  std::uint64_t weight_bytes = 0;        // their bytes in the files, scales included
  std::vector<std::string> leftover_tensors;  // known, but not used: keys and values of layers that share another's
  std::vector<std::string> skipped_tensors;   // of the vision and audio towers
  std::vector<std::string> unknown_tensors;
};

// `path` is a Hugging Face folder or a GGUF file. Every tensor the model needs is found and its dtype and shape checked
// before this returns. Throws FormatError, UnsupportedError, ResourceError and, for `options`, ArgumentError.
std::shared_ptr<const Checkpoint> LoadCheckpoint(const std::string& path, const LoadOptions& options);

struct DrafterCheckpoint {
  std::shared_ptr<const Checkpoint> target;
  TensorFiles files;
  DraftModel model;
  std::string model_type;
  std::uint64_t parameters = 0;    // as in Checkpoint
  std::uint64_t weight_bytes = 0;  // likewise
  std::vector<std::string> unknown_tensors;
};

// `folder` is a Hugging Face folder of a drafter that was made for `target`. Throws as LoadCheckpoint does, and
// UnsupportedError for the drafter of another model, which names what differs.
std::shared_ptr<const DrafterCheckpoint> LoadDrafter(const std::string& folder,
                                                     const std::shared_ptr<const Checkpoint>& target,
                                                     const LoadOptions& options);

// The model of a checkpoint, keeping the checkpoint alive.
inline std::shared_ptr<const Model> ModelOf(const std::shared_ptr<const Checkpoint>& checkpoint) {
  return {checkpoint, &checkpoint->model};
}
inline std::shared_ptr<const DraftModel> ModelOf(const std::shared_ptr<const DrafterCheckpoint>& drafter) {
  return {drafter, &drafter->model};
}

}  // namespace gemmule
