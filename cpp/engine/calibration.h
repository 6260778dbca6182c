// The static scales of the mobile format, found from what a text makes of a checkpoint's activations.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/exclusive.h"
#include "base/parallel.h"
#include "engine/load.h"

namespace gemmule {

class ActivationCounts;

// Not for two threads at once: a second call while one runs throws ArgumentError.
class Calibration {
 public:
  // Throws as LoadCheckpoint does. threads 0: the default number. Scales that the checkpoint has round nothing here.
  Calibration(const std::string& path, int threads);
  ~Calibration();

  const std::shared_ptr<const Checkpoint>& checkpoint() const { return checkpoint_; }

  // Counts the values that `ids` (T,) give as a sequence of their own, T >= 1. Throws as the calls of Decoder do, and
  // FormatError where a value is not finite. What was counted is void after that, and after a stop.
  void Observe(std::span<const std::int32_t> ids, const Parallel::StopCheck& stop);

  // Of each quantized module and each cache its scale, the least squares' of all values seen, by the tensor's name in
  // the Hugging Face format behind "model.language_model.". 0 where all values were 0.
  std::vector<std::pair<std::string, float>> Scales(const Parallel::StopCheck& stop);

 private:
  const std::string path_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  Parallel parallel_;
  std::unique_ptr<ActivationCounts> counts_;
  Exclusive in_use_{"calibration"};
};

}  // namespace gemmule
