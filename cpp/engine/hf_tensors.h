// The tensors of a Hugging Face folder: floats, and the packed weights of the mobile and compressed-tensors formats.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/hf_config.h"
#include "engine/tensor_table.h"
#include "formats/checkpoint_files.h"

namespace gemmule {

class HfTensors : public TensorTable {
 public:
  // `quantization`: what the config announces. Each matrix is then packed or not, as the tensors there are say.
  HfTensors(const CheckpointFiles& checkpoint, Quantization quantization);

  Linear Matrix(const std::string& name, std::size_t rows, std::size_t cols) override;
  // Floats.
  ExpertMatrices Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                       std::size_t all_rows, std::size_t cols) override;
  Embedding Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier) override;
  Linear TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols) override;
  float CacheScale(const std::string& name) override;
  // A vector of n token ids in [0, n).
  std::vector<std::int32_t> Ids(const std::string& name, std::size_t n);

  std::vector<std::string> Leftovers(const Config& config) const override;
  std::vector<std::string> Towers() const override;

 private:
  std::string FileName(const std::string& name) const override;

  // A matrix as it is stored, its bits read from the bytes of its rows.
  struct Stored {
    Encoding encoding;
    const TensorView* elements;
    const TensorView* scales;  // (rows, S); null for floats
    Encoding scale_encoding = Encoding::kF32;
  };
  Stored Find(const std::string& name, std::size_t rows, std::size_t cols);
  // The same, counted among what the model holds.
  Stored Take(const std::string& name, std::size_t rows, std::size_t cols);
  Stored FindPlain(const std::string& name, std::size_t rows, std::size_t cols);
  Stored FindWords(const std::string& name, std::size_t rows, std::size_t cols);
  Encoding PackedEncoding(const TensorView& tensor, std::size_t rows, std::size_t cols) const;
  Encoding WordEncoding(const TensorView& words, std::size_t rows, std::size_t cols) const;
  void CheckStoredShape(const std::string& name, std::size_t rows, std::size_t cols);
  void RefuseUnsupported(const std::string& name) const;
  void AddScales(Stored& stored, const std::string& name, std::size_t rows, std::size_t cols);
  // The rows of `stored` for the kernels, which take one scale a row, or one a group of 32.
  MatrixView Whole(const Stored& stored, std::size_t rows, std::size_t cols) const;
  // The same, with the scales that products can take.
  MatrixView View(const Stored& stored, std::size_t rows, std::size_t cols) const;
  void WantFiniteScales(const TensorView& tensor, const ScaleView& scales) const;
  float ActivationScale(const std::string& name);

  Packing packing_;
  std::vector<std::size_t> group_sizes_;
  std::string prefix_;  // of the names that the text model's tensors have
};

}  // namespace gemmule
