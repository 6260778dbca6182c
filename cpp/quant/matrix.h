// A stored matrix (rows, cols), row after row, as it lies in the mapped file.
#pragma once

#include <cstddef>
#include <cstring>

#include "quant/encoding.h"

namespace gemmule {

struct MatrixView {
  Encoding encoding = Encoding::kF32;
  const std::byte* data = nullptr;  // any alignment
  std::size_t rows = 0;
  std::size_t cols = 0;
  const std::byte* row_scale = nullptr;  // (rows,) f32 of any alignment; null for floats

  std::size_t RowBytes() const { return gemmule::RowBytes(encoding, cols); }
  const std::byte* Row(std::size_t row) const { return data + row * RowBytes(); }
  float RowScale(std::size_t row) const {
    if (row_scale == nullptr) return 1.0f;
    float scale;
    std::memcpy(&scale, row_scale + row * sizeof scale, sizeof scale);
    return scale;
  }
};

}  // namespace gemmule
