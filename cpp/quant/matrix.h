// A stored matrix (rows, cols), row after row, as it lies in the mapped file.
#pragma once

#include <cstddef>

#include "quant/encoding.h"
#include "quant/scale_view.h"

namespace gemmule {

struct MatrixView {
  Encoding encoding = Encoding::kF32;
  const std::byte* data = nullptr;  // any alignment
  std::size_t rows = 0;
  std::size_t cols = 0;
  ScaleView scales = {};    // (rows,) for codes, (rows, cols / 32) for g4, none for the others
  std::size_t padding = 0;  // bytes after each row

  std::size_t RowBytes() const { return gemmule::RowBytes(encoding, cols); }
  const std::byte* Row(std::size_t row) const { return data + row * (RowBytes() + padding); }
  std::size_t bytes() const { return rows * (RowBytes() + padding); }
  // Of a row with one scale or none.
  float RowScale(std::size_t row) const { return scales.data == nullptr ? 1.0f : scales.At(row); }
  // All scales of a row.
  ScaleView RowScales(std::size_t row) const {
    const std::size_t count = scales.count / rows;
    return scales.data == nullptr ? ScaleView() : scales.From(row * count, count);
  }
};

}  // namespace gemmule
