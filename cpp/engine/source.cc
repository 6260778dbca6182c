#include "engine/source.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/page_guard.h"

namespace gemmule {
namespace {

std::shared_ptr<const Checkpoint> Open(const std::string& path, int threads) {
  auto checkpoint =
      LoadCheckpoint(path, {.threads = threads, .activations = "float32", .kv = "float32", .unused_too = true});
  if (checkpoint->model.config.generation.has_layer_scalar) return checkpoint;
  throw UnsupportedError("only checkpoints of Gemma 4 are converted", "Use llama.cpp's tools for this model.",
                         {.file = path, .expected = "Gemma 4", .found = checkpoint->model_type});
}

bool SameScales(const ScaleView& a, const ScaleView& b) {
  if (a.count != b.count) return false;
  for (std::size_t i = 0; i < a.count; ++i) {
    if (a.At(i) != b.At(i)) return false;
  }
  return true;
}

bool SameBytes(const SourceTensor& a, const SourceTensor& b) {
  if (a.encoding() != b.encoding() || a.shape != b.shape) return false;
  const std::size_t bytes = RowBytes(a.encoding(), a.cols());
  for (std::size_t row = 0; row < a.rows(); ++row) {
    if (!std::equal(a.Row(row), a.Row(row) + bytes, b.Row(row)) || !SameScales(a.Scales(row), b.Scales(row)))
      return false;
  }
  return true;
}

}  // namespace

Source::Source(const std::string& path, int threads)
    : checkpoint_(Open(path, threads)),
      tensors_(SourceTensors(checkpoint_->model)),
      parallel_(*checkpoint_->model.workers) {}

bool Source::Equal(std::size_t tensor, std::size_t other) const {
  PageGuard::ComeFirst();
  const bool equal = SameBytes(tensors_.at(tensor), tensors_.at(other));
  checkpoint_->model.CheckFiles();
  return equal;
}

void Source::Decode(std::size_t tensor, std::size_t first, std::span<float> rows) const {
  PageGuard::ComeFirst();
  const SourceTensor& from = tensors_.at(tensor);
  const std::size_t count = rows.size() / from.cols();
  if (count > from.rows() || first > from.rows() - count) {
    throw ArgumentError(std::to_string(count) + " rows from " + std::to_string(first) + " on: " + from.name + " has " +
                        std::to_string(from.rows()));
  }
  for (std::size_t at = 0; at < rows.size(); at += from.cols()) from.Decode(first++, rows.subspan(at, from.cols()));
  checkpoint_->model.CheckFiles();
}

EncodeCounts Source::Encode(std::size_t tensor, RowEncoder& encoder, const EncodeTarget& target, bool allow_nonfinite,
                            const Parallel::StopCheck& stop) {
  const Exclusive::Use use(in_use_);
  const Parallel::Asking asking(parallel_, stop);
  PageGuard::ComeFirst();
  const EncodeCounts counts =
      EncodeTensor(tensors_.at(tensor), checkpoint_->files, encoder, parallel_, target, allow_nonfinite);
  checkpoint_->model.CheckFiles();
  return counts;
}

}  // namespace gemmule
