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
HWY_INLINE void RowTile(const std::byte* row, std::size_t n, const float* HWY_RESTRICT x, std::size_t x_stride,
                        float scale, float* HWY_RESTRICT y, std::size_t y_stride) {
  constexpr std::size_t kPlanes = Planes(kEncoding);
  VF32 sum[kTokens][kRegs];
  Unroll<kTokens>([&](auto t)
                      GEMMULE_LAMBDA { Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA { sum[t][r] = hn::Zero(F32()); }); });
  ForChunks<kEncoding>(n, [&](std::size_t chunk, auto count) GEMMULE_LAMBDA {
    Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
      const float* step = x + (chunk * kPlanes + plane) * kVirtualLanes;
      Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
        const VF32 w = Decode<kEncoding>(row, chunk * kVirtualLanes + r * kLanes, CountOfReg(count, r), plane);
        Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
          sum[t][r] = hn::MulAdd(w, hn::LoadU(F32(), step + t * x_stride + r * kLanes), sum[t][r]);
        });
      });
    });
  });
  Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA { y[t * y_stride] = scale * ReduceLanes16(sum[t]); });
}

template <Encoding kEncoding>
void Rows(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const float* x, std::size_t tokens,
          std::size_t x_stride, float* y, std::size_t y_stride) {
  constexpr std::size_t kTile = 4;
  for (std::size_t row = row_begin; row < row_end; ++row) {
    const std::byte* data = w.Row(row);
    const float scale = w.RowScale(row);
    std::size_t t = 0;
    for (; t + kTile <= tokens; t += kTile) {
      RowTile<kEncoding, kTile>(data, w.cols, x + t * x_stride, x_stride, scale, y + t * y_stride + row, y_stride);
    }
    for (; t < tokens; ++t) {
      RowTile<kEncoding, 1>(data, w.cols, x + t * x_stride, x_stride, scale, y + t * y_stride + row, y_stride);
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
    default: HWY_DASSERT(false);
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
  HWY_DASSERT(row_end <= w.rows && w.cols % Planes(w.encoding) == 0 && x_stride >= StepFloats(w.encoding, w.cols));
  HWY_DYNAMIC_DISPATCH(MatmulF32)(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
}

}  // namespace gemmule
#endif  // HWY_ONCE
