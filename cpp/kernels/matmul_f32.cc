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

// kRows rows by kTokens tokens: a decoded vector serves all tokens, a loaded one of theirs all rows.
template <Encoding kEncoding, std::size_t kRows, std::size_t kTokens>
HWY_INLINE void Tile(const MatrixView& w, std::size_t row, const float* HWY_RESTRICT x, std::size_t x_stride,
                     float* HWY_RESTRICT y, std::size_t y_stride) {
  VF32 sum[kTokens][kRows][kRegs];
  Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
    Unroll<kRows * kRegs>([&](auto i) GEMMULE_LAMBDA { sum[t][i / kRegs][i % kRegs] = hn::Zero(F32()); });
  });
  const auto add = [&](std::size_t step, auto r, const VF32(&v)[kRows]) GEMMULE_LAMBDA {
    const float* at = x + step * kVirtualLanes + r * kLanes;
    Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA {
      const VF32 token = hn::LoadU(F32(), at + t * x_stride);
      Unroll<kRows>([&](auto i) GEMMULE_LAMBDA { sum[t][i][r] = hn::MulAdd(v[i], token, sum[t][i][r]); });
    });
  };
  if constexpr (IsBlock(kEncoding)) {
    static_assert(kRows == 1);
    ForSteps<kEncoding>(w.Row(row), w.RowScales(row), w.cols, [&](std::size_t step, auto r, VF32 v) GEMMULE_LAMBDA {
      const VF32 one[1] = {v};
      add(step, r, one);
    });
  } else {
    const std::byte* rows[kRows];
    for (std::size_t i = 0; i < kRows; ++i) rows[i] = w.Row(row + i);
    ForStepsOfRows<kEncoding>(rows, w.cols, add);
  }
  Unroll<kRows>([&](auto i) GEMMULE_LAMBDA {
    const float scale = IsCoded(kEncoding) ? w.RowScale(row + i) : 1.0f;
    Unroll<kTokens>([&](auto t) GEMMULE_LAMBDA { y[t * y_stride + i] = scale * ReduceLanes16(sum[t][i]); });
  });
}

// Rows [row_begin, row_end) by all tokens, kTokens at a time, then what is left by smaller tiles. A tile's activations
// stay in the first-level cache while the rows go by.
template <Encoding kEncoding, std::size_t kRows, std::size_t kTokens>
HWY_INLINE void Tiles(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const float* x,
                      std::size_t tokens, std::size_t x_stride, float* y, std::size_t y_stride) {
  for (; tokens >= kTokens; tokens -= kTokens, x += kTokens * x_stride, y += kTokens * y_stride) {
    std::size_t row = row_begin;
    for (; row + kRows <= row_end; row += kRows) {
      Tile<kEncoding, kRows, kTokens>(w, row, x, x_stride, y + row, y_stride);
    }
    if constexpr (kRows > 1) {
      for (; row < row_end; ++row) Tile<kEncoding, 1, kTokens>(w, row, x, x_stride, y + row, y_stride);
    }
  }
  if constexpr (kTokens > 1) {
    // One token waits for memory, which likes one row after the other.
    constexpr std::size_t kFewer = kTokens / 2;
    if (tokens > 0) {
      Tiles<kEncoding, kFewer == 1 ? 1 : kRows, kFewer>(w, row_begin, row_end, x, tokens, x_stride, y, y_stride);
    }
  }
}

template <Encoding kEncoding>
void Rows(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const float* x, std::size_t tokens,
          std::size_t x_stride, float* y, std::size_t y_stride) {
  // Sums take three quarters of the registers: 32 on AVX-512 and Arm, else 16. Codes and blocks, whose decoding takes
  // longer than their products, go one row at a time.
  constexpr std::size_t kRegisters = (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64 ? 32 : 16;
  constexpr bool kFloats = !IsCoded(kEncoding) && !IsBlock(kEncoding);
  constexpr std::size_t kRows = !kFloats || HWY_IS_ASAN ? 1 : kRegs == 1 ? 4 : 2;
  // Under a sanitizer one token at a time: GCC would take many minutes for more.
  constexpr std::size_t kTokens = HWY_IS_ASAN ? 1 : kFloats ? kRegisters * 3 / 4 / kRegs / kRows : 4;
  constexpr std::size_t kRowBlock = 16;  // rows that go by for each tile of tokens; they stay in the second-level cache
  for (std::size_t row = row_begin; row < row_end; row += kRowBlock) {
    Tiles<kEncoding, kRows, kTokens>(w, row, HWY_MIN(row + kRowBlock, row_end), x, tokens, x_stride, y, y_stride);
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
