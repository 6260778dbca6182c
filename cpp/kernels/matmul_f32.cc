#include "kernels/matmul_f32.h"

#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_f32.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/decode-inl.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// One row by kTokens tokens: a decoded vector serves all of them.
template <Encoding kEncoding, std::size_t kTokens>
HWY_INLINE void RowTile(const MatrixView& w, std::size_t row, const float* HWY_RESTRICT x, std::size_t x_stride,
                        float* HWY_RESTRICT y, std::size_t y_stride) {
  VF32 sum[kTokens][kRegs];
  Unroll<kTokens>([&](auto t)
                      GEMMULE_LAMBDA { Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA { sum[t][r] = hn::Zero(F32()); }); });
  ForSteps<kEncoding>(w.Row(row), w.RowScales(row), w.cols, [&](std::size_t step, auto r, VF32 v) GEMMULE_LAMBDA {
    const float* at = x + step * kVirtualLanes + r * kLanes;
    Unroll<kTokens>([&](auto t)
                        GEMMULE_LAMBDA { sum[t][r] = hn::MulAdd(v, hn::LoadU(F32(), at + t * x_stride), sum[t][r]); });
  });
  const float scale = IsCoded(kEncoding) ? w.RowScale(row) : 1.0f;
  Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA { y[t * y_stride] = scale * ReduceLanes16(sum[t]); });
}

template <Encoding kEncoding>
void Rows(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const float* x, std::size_t tokens,
          std::size_t x_stride, float* y, std::size_t y_stride) {
  constexpr std::size_t kTile = 4;
  for (std::size_t row = row_begin; row < row_end; ++row) {
    std::size_t t = 0;
    for (; t + kTile <= tokens; t += kTile) {
      RowTile<kEncoding, kTile>(w, row, x + t * x_stride, x_stride, y + t * y_stride + row, y_stride);
    }
    for (; t < tokens; ++t) {
      RowTile<kEncoding, 1>(w, row, x + t * x_stride, x_stride, y + t * y_stride + row, y_stride);
    }
  }
}

void MatmulF32(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const float* x, std::size_t tokens,
               std::size_t x_stride, float* y, std::size_t y_stride) {
  switch (w.encoding) {
    case Encoding::kF32: return Rows<Encoding::kF32>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kF16: return Rows<Encoding::kF16>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kBF16: return Rows<Encoding::kBF16>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kC2: return Rows<Encoding::kC2>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kC4: return Rows<Encoding::kC4>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kC8: return Rows<Encoding::kC8>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kU8: return Rows<Encoding::kU8>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kG4: return Rows<Encoding::kG4>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kQ4_0: return Rows<Encoding::kQ4_0>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kQ4_1: return Rows<Encoding::kQ4_1>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kQ5_0: return Rows<Encoding::kQ5_0>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kQ5_1: return Rows<Encoding::kQ5_1>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kQ8_0: return Rows<Encoding::kQ8_0>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kQ4_K: return Rows<Encoding::kQ4_K>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kQ5_K: return Rows<Encoding::kQ5_K>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    case Encoding::kQ6_K: return Rows<Encoding::kQ6_K>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(MatmulF32);

void MatmulF32(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const float* x, std::size_t tokens,
               std::size_t x_stride, float* y, std::size_t y_stride) noexcept {
  HWY_DASSERT(row_end <= w.rows && w.cols % BlockElements(w.encoding) == 0 &&
              x_stride >= StepFloats(w.encoding, w.cols));
  HWY_DYNAMIC_DISPATCH(MatmulF32)(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
}

}  // namespace gemmule
#endif  // HWY_ONCE
