// The tensors of a Hugging Face folder: floats, and the packed weights of the mobile format.
#pragma once

#include <string>
#include <vector>

#include "engine/tensor_table.h"
#include "formats/checkpoint_files.h"

namespace gemmule {

class HfTensors : public TensorTable {
 public:
  // `mobile`: the config announces the mobile format's packed weights.
  HfTensors(const CheckpointFiles& checkpoint, bool mobile);

  // Packed where its dtype says so: the bits follow from the row's bytes.
  Linear Matrix(const std::string& name, std::size_t rows, std::size_t cols) override;
  // Floats.
  ExpertMatrices Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                       std::size_t all_rows, std::size_t cols) override;
  Embedding Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier) override;
  Linear TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols) override;
  float CacheScale(const std::string& name) override;

  std::vector<std::string> Leftovers(const Config& config) const override;
  std::vector<std::string> Towers() const override;

 private:
  std::string FileName(const std::string& name) const override;
  const TensorView& NeedScales(const std::string& name, std::size_t rows, std::size_t cols);
  Encoding CheckMatrix(const TensorView& tensor, std::size_t rows, std::size_t cols) const;

  bool mobile_;
  std::string prefix_;  // of all names but the head's
};

}  // namespace gemmule
