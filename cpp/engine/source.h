// A checkpoint opened to be converted: its tensors in order, and the writing of one of them in another encoding.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/exclusive.h"
#include "base/parallel.h"
#include "engine/encode_tensor.h"
#include "engine/load.h"
#include "engine/source_tensors.h"

namespace gemmule {

class Source {
 public:
  // Throws as LoadCheckpoint does, UnsupportedError for a model that is not Gemma 4. threads 0: the default number.
  Source(const std::string& path, int threads);

  const std::shared_ptr<const Checkpoint>& checkpoint() const { return checkpoint_; }
  const std::vector<SourceTensor>& tensors() const { return tensors_; }

  // All of these throw ResourceError where a file has become shorter.

  // Whether two tensors are stored in the same bytes.
  bool Equal(std::size_t tensor, std::size_t other) const;
  // rows (n, cols): n of its rows from `first` on. Throws ArgumentError where there are not so many.
  void Decode(std::size_t tensor, std::size_t first, std::span<float> rows) const;
  // Throws as EncodeTensor does, and ArgumentError while another thread's call runs.
  EncodeCounts Encode(std::size_t tensor, RowEncoder& encoder, const EncodeTarget& target, bool allow_nonfinite,
                      const Parallel::StopCheck& stop);

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::vector<SourceTensor> tensors_;  // of the checkpoint's model
  Parallel parallel_;
  Exclusive in_use_{"source"};
};

}  // namespace gemmule
