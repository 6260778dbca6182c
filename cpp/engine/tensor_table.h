// Finds the tensors a model needs among those of a checkpoint, checks them, and remembers which were asked for.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "formats/checkpoint_files.h"
#include "model/weights.h"

namespace gemmule {

class TensorTable {
 public:
  // `mobile`: the config announces the mobile format's packed weights.
  TensorTable(const CheckpointFiles& files, bool mobile) : files_(files), mobile_(mobile) {}

  bool Has(const std::string& name) const { return files_.Find(name) != nullptr; }

  // All throw FormatError where the tensor is missing or its dtype or shape does not fit.

  // A vector of n floats of any float type.
  std::vector<float> Vector(const std::string& name, std::size_t n);
  // One float of shape [] or [1], finite.
  float Scalar(const std::string& name);
  // `name` is the module's. Packed where its dtype says so: the bits follow from the row's bytes.
  Linear Matrix(const std::string& name, std::size_t rows, std::size_t cols);
  // `name` is the tensor's: (experts, rows, cols), of which [first, first + rows) of `all_rows` rows of each expert.
  // Floats.
  ExpertMatrices Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                       std::size_t all_rows, std::size_t cols);
  Embedding Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier);
  // The head that multiplies by a tied embedding's rows.
  Linear TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols);

  const std::unordered_set<std::string>& used() const { return used_; }
  std::uint64_t elements() const { return elements_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  const TensorView& Need(const std::string& name);
  const TensorView& NeedScales(const std::string& name, std::size_t rows, std::size_t cols);
  Encoding CheckMatrix(const TensorView& tensor, std::size_t rows, std::size_t cols) const;
  void Count(const TensorView& tensor, std::uint64_t elements);
  [[noreturn]] void WrongShape(const TensorView& tensor, const std::string& expected) const;

  const CheckpointFiles& files_;
  bool mobile_;
  std::unordered_set<std::string> used_;
  std::uint64_t elements_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace gemmule
