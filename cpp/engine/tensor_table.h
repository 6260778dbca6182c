// Finds the tensors a model needs among those of a checkpoint, checks them, and remembers which were asked for. One
// class for each kind of checkpoint says how its tensors are named and stored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "formats/tensor_files.h"
#include "model/config.h"
#include "model/weights.h"

namespace gemmule {

class TensorTable {
 public:
  virtual ~TensorTable() = default;

  // Names are those of the Hugging Face format behind "model." or "model.language_model.", such as "norm.weight" or
  // "layers.0.self_attn.q_proj"; and "lm_head". All throw FormatError where a tensor is missing or its type or shape
  // does not fit.

  bool Has(const std::string& name) const { return files_.Find(FileName(name)) != nullptr; }
  // A vector of n floats of any float type, finite.
  std::vector<float> Vector(const std::string& name, std::size_t n);
  // One float of shape [] or [1], finite.
  float Scalar(const std::string& name);
  // `name` is the module's, without ".weight".
  virtual Linear Matrix(const std::string& name, std::size_t rows, std::size_t cols) = 0;
  // `name` is the tensor's: (experts, rows, cols), of which [first, first + rows) of `all_rows` rows of each expert.
  virtual ExpertMatrices Stack(const std::string& name, std::size_t experts, std::size_t first, std::size_t rows,
                               std::size_t all_rows, std::size_t cols) = 0;
  virtual Embedding Table(const std::string& name, std::size_t rows, std::size_t cols, float multiplier) = 0;
  // The head that multiplies by a tied embedding's rows.
  virtual Linear TiedHead(const std::string& embedding, std::size_t rows, std::size_t cols) = 0;
  // The static scale of a layer's key or value cache; 0 where the checkpoint has none.
  virtual float CacheScale(const std::string&) { return 0.0f; }

  // Names in the files: starts of those that belong to the model but that it does not need.
  virtual std::vector<std::string> Leftovers(const Config& config) const = 0;
  // Starts of those that belong to the vision and audio towers.
  virtual std::vector<std::string> Towers() const { return {}; }

  const std::unordered_set<std::string>& used() const { return used_; }  // names in the files
  std::uint64_t elements() const { return elements_; }
  std::uint64_t bytes() const { return bytes_; }

 protected:
  // `place` is the file that messages name for a missing tensor.
  TensorTable(const TensorFiles& files, std::string place) : files_(files), place_(std::move(place)) {}

  // The name in the files.
  virtual std::string FileName(const std::string& name) const = 0;

  const TensorView& Need(const std::string& name);
  // Its n floats.
  std::vector<float> Decoded(const TensorView& tensor, std::size_t n) const;
  void Count(const TensorView& tensor, std::uint64_t elements);
  void CountBytes(const TensorView& tensor) { bytes_ += tensor.bytes.size(); }
  // Where messages say that a tensor lies.
  Where At(const TensorView& tensor) const;
  [[noreturn]] void WrongShape(const TensorView& tensor, const std::string& expected) const;
  void WantFinite(const TensorView& tensor, std::size_t element, float value) const;

  const TensorFiles& files_;

 private:
  std::string place_;
  std::unordered_set<std::string> used_;
  std::uint64_t elements_ = 0;
  std::uint64_t bytes_ = 0;
};

// Nothing for types that are not floats.
std::optional<Encoding> FloatEncoding(DType dtype);

// "[2, 3]"
std::string ShapeText(const std::vector<std::uint64_t>& shape);

}  // namespace gemmule
