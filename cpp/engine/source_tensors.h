// A loaded checkpoint's tensors, row by row: what converting reads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/model.h"

namespace gemmule {

struct SourceTensor {
  std::string name;                  // as in model/tensors.h, with ".weight" where the Hugging Face format has it
  std::vector<std::uint64_t> shape;  // outermost first
  // Their rows, one part behind the other, are the tensor's: a matrix has one, experts have one each or two. Vectors
  // are one row. They point into the model.
  std::vector<MatrixView> parts;
  // The linear module whose weight it is; null for tables, vectors and experts.
  const Linear* linear = nullptr;

  std::size_t rows() const;
  std::size_t cols() const { return parts[0].cols; }
  Encoding encoding() const { return parts[0].encoding; }
  const std::byte* Row(std::size_t row) const { return Part(row).Row(row % parts[0].rows); }
  ScaleView Scales(std::size_t row) const { return Part(row).RowScales(row % parts[0].rows); }
  // out (cols,) = row `row`.
  void Decode(std::size_t row, std::span<float> out) const;

 private:
  const MatrixView& Part(std::size_t row) const { return parts[row / parts[0].rows]; }
};

// Without a tied head. `model` must outlive the result.
std::vector<SourceTensor> SourceTensors(const Model& model);

}  // namespace gemmule
