#include "engine/source.h"

#include "base/error.h"

namespace gemmule {
namespace {

std::shared_ptr<const Checkpoint> Open(const std::string& path, int threads) {
  auto checkpoint =
      LoadCheckpoint(path, {.threads = threads, .activations = "float32", .kv = "float32", .unused_too = true});
  if (checkpoint->model.config.generation.has_layer_scalar) return checkpoint;
  throw UnsupportedError("only checkpoints of Gemma 4 are converted", "Use llama.cpp's tools for this model.",
                         {.file = path, .expected = "Gemma 4", .found = checkpoint->model_type});
}

}  // namespace

Source::Source(const std::string& path, int threads)
    : checkpoint_(Open(path, threads)),
      tensors_(SourceTensors(checkpoint_->model)),
      parallel_(*checkpoint_->model.workers) {}

EncodeCounts Source::Encode(std::size_t tensor, RowEncoder& encoder, int descriptor, std::uint64_t offset,
                            const Parallel::StopCheck& stop) {
  parallel_.Reset(stop);
  return EncodeTensor(tensors_.at(tensor), checkpoint_->files, encoder, parallel_, descriptor, offset);
}

}  // namespace gemmule
