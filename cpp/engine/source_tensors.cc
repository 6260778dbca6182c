#include "engine/source_tensors.h"

#include "model/tensors.h"
#include "quant/row.h"

namespace gemmule {
namespace {

MatrixView ViewOf(const float* values, std::size_t n) {
  return {Encoding::kF32, reinterpret_cast<const std::byte*>(values), 1, n};
}

// Lists what the model holds: see model/tensors.h for the calls.
struct Lister {
  std::vector<SourceTensor>& tensors;

  // What was loaded of them has a view.
  bool WantsUnused(const std::string&) const { return true; }
  void Vector(const std::string& name, const std::vector<float>& from, std::size_t n) {
    if (!from.empty()) tensors.push_back({name, {n}, {ViewOf(from.data(), n)}});
  }
  void Scalar(const std::string& name, const float& from) { tensors.push_back({name, {1}, {ViewOf(&from, 1)}}); }
  void CacheScale(const std::string& name, const float& from) {
    if (from != 0.0f) tensors.push_back({name, {}, {ViewOf(&from, 1)}});
  }
  void Matrix(const std::string& name, const Linear& from, std::size_t rows, std::size_t cols) {
    if (from.weight.data) tensors.push_back({name + ".weight", {rows, cols}, {from.weight}, &from});
  }
  void TiedHead(const std::string&, const Linear&, std::size_t, std::size_t) {}
  void Table(const std::string& name, const Embedding& from, std::size_t rows, std::size_t cols, float) {
    tensors.push_back({name + ".weight", {rows, cols}, {from.whole}});
  }
  void Experts(const std::string& name, const ExpertMatrices& from, std::size_t experts, std::size_t rows,
               std::size_t cols) {
    SourceTensor tensor{name, {experts, rows, cols}, {}};
    for (std::size_t i = 0; i < experts; ++i) tensor.parts.push_back(from.Expert(i));
    tensors.push_back(std::move(tensor));
  }
  void ExpertPairs(const std::string& name, const ExpertMatrices& first, const ExpertMatrices& second,
                   std::size_t experts, std::size_t rows, std::size_t cols) {
    SourceTensor tensor{name, {experts, 2 * rows, cols}, {}};
    for (std::size_t i = 0; i < experts; ++i) {
      tensor.parts.push_back(first.Expert(i));
      tensor.parts.push_back(second.Expert(i));
    }
    tensors.push_back(std::move(tensor));
  }
};

}  // namespace

std::size_t SourceTensor::rows() const { return parts.size() * parts[0].rows; }

void SourceTensor::Decode(std::size_t row, std::span<float> out) const {
  const MatrixView& part = Part(row);
  const std::size_t at = row % part.rows;
  DecodeRow(part.encoding, {part.Row(at), part.RowBytes()}, part.RowScales(at), out);
}

std::vector<SourceTensor> SourceTensors(const Model& model) {
  std::vector<SourceTensor> tensors;
  ForEachTensor(model.config, model.weights, Lister{tensors});
  return tensors;
}

}  // namespace gemmule
