// The tensors of a GGUF model: floats and blocks, under llama.cpp's names.
#pragma once

#include <string>
#include <vector>

#include "engine/tensor_table.h"
#include "formats/gguf_files.h"

namespace gemmule {

class GgufTensors : public TensorTable {
 public:
  explicit GgufTensors(const GgufFiles& checkpoint) : TensorTable(checkpoint.weights, checkpoint.path) {}

  Linear Matrix(const std::string& name, std::size_t rows, std::size_t cols) override;
  // The gate and up rows of experts.gate_up_proj may stand in tensors of their own.
  ExpertMatrices Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                       std::size_t all_rows, std::size_t cols) override;
  Embedding Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier) override;
  Linear TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols) override;

  std::vector<std::string> Leftovers(const Config& config) const override;

  // The name in a file of one of the Hugging Face format, behind its prefix.
  static std::string GgufName(const std::string& name);
  // The name of the Hugging Face format, behind its prefix, for a tensor of a file; empty where it has none.
  static std::string HfName(const std::string& in_file);

  // How many angles of a full layer's heads turn, of `half` there are: all where the file has no divisors for them
  // (rope_freqs.weight). Throws UnsupportedError for divisors other than 1 first and 1e30 (still) after.
  std::size_t TurningAngles(std::size_t half);

 private:
  std::string FileName(const std::string& name) const override { return GgufName(name); }
  // A tensor of any type that has an Encoding, and which that is.
  struct Stored {
    const TensorView& tensor;
    Encoding encoding;
  };
  Stored NeedStored(const std::string& name, const std::vector<std::uint64_t>& shape);
};

}  // namespace gemmule
