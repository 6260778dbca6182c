#include "kernels/matmul_i8.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_i8.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/dot-inl.h"
#include "kernels/lanes-inl.h"
#include "kernels/tiles-inl.h"
#include "quant/channelwise.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Accumulators of one digit row: where few digit rows share the registers, each plane has its own, so that no sum waits
// for the one before it.
template <Encoding kEncoding, std::size_t kDigits>
constexpr std::size_t kChains = kDigits <= 2 ? Channelwise<kEncoding>::kPerByte : 1;

// Adds the products of `bytes`, kByteLanes packed bytes of a row, with kDigits digit rows of activations.
template <Encoding kEncoding, std::size_t kDigits>
HWY_INLINE void AddProducts(VU8 bytes, const std::int8_t* HWY_RESTRICT x, const Int8Rows& rows,
                            VI32 (&sum)[kDigits][kChains<kEncoding, kDigits>]) {
  using C = Channelwise<kEncoding>;
  Unroll<C::kPerByte>([&](auto plane) GEMMULE_LAMBDA {
    VU8 codes = bytes;
    if constexpr (C::kBits != 8) {
      // A shift of 16-bit lanes: bits of the upper byte come down and are masked away.
      const hn::Repartition<std::uint16_t, U8> d16;
      constexpr int kShift = static_cast<int>(plane() * C::kBits);
      codes = hn::And(hn::BitCast(U8(), hn::ShiftRight<kShift>(hn::BitCast(d16, bytes))), hn::Set(U8(), C::kMask));
    } else if constexpr (kEncoding == Encoding::kU8) {
      codes = hn::Xor(bytes, hn::Set(U8(), 0x80));  // as signed bytes
    }
    Unroll<kDigits>([&](auto digit) GEMMULE_LAMBDA {
      const VI8 v = hn::LoadU(I8(), x + digit * rows.row_stride + plane * rows.plane_stride);
      VI32& s = sum[digit][plane % kChains<kEncoding, kDigits>];
      s = C::kBits == 8 ? DotBytes(codes, v, s) : DotCodes(codes, v, s);
    });
  });
}

// One row by kDigits digit rows of activations, the first of which is number `first`: their integer sums.
template <Encoding kEncoding, std::size_t kDigits>
HWY_INLINE void RowSums(const std::byte* row, std::size_t row_bytes, const Int8Rows& x, std::size_t first,
                        std::int32_t (&out)[kDigits]) {
  using C = Channelwise<kEncoding>;
  constexpr std::int32_t kOffset = C::kBits == 8 ? kByteOffset : C::kOffset;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(row);
  const std::int8_t* codes = x.codes + first * x.row_stride;
  constexpr std::size_t kN = kChains<kEncoding, kDigits>;
  VI32 sum[kDigits][kN];
  Unroll<kDigits>([&](auto digit) GEMMULE_LAMBDA {
    Unroll<kN>([&](auto chain) GEMMULE_LAMBDA { sum[digit][chain] = hn::Zero(I32()); });
  });
  std::size_t b = 0;
  for (; b + kByteLanes <= row_bytes; b += kByteLanes) {
    AddProducts<kEncoding>(hn::LoadU(U8(), bytes + b), codes + b, x, sum);
  }
  // Past the row's end the activations are zero.
  if (b < row_bytes) AddProducts<kEncoding>(hn::LoadN(U8(), bytes + b, row_bytes - b), codes + b, x, sum);
  Unroll<kDigits>([&](auto digit) GEMMULE_LAMBDA {
    VI32 total = sum[digit][0];
    Unroll<kN - 1>([&](auto chain) GEMMULE_LAMBDA { total = hn::Add(total, sum[digit][chain + 1]); });
    out[digit] = hn::ReduceSum(I32(), total) - kOffset * x.sums[first + digit];
  });
}

// One row times kTokens tokens from t on. y: of the row and the first of them.
template <Encoding kEncoding, std::size_t kDigitsPerToken, std::size_t kTokens>
HWY_INLINE void RowTile(const MatrixView& w, std::size_t row, const Int8Rows& x, std::size_t t, float* HWY_RESTRICT y,
                        std::size_t y_stride) {
  std::int32_t sums[kTokens * kDigitsPerToken];
  RowSums<kEncoding>(w.Row(row), w.RowBytes(), x, t * kDigitsPerToken, sums);
  const float row_scale = w.RowScale(row);
  for (std::size_t i = 0; i < kTokens; ++i) {
    float sum = static_cast<float>(sums[i * kDigitsPerToken]);
    if constexpr (kDigitsPerToken == 2) sum = 256.0f * sum + static_cast<float>(sums[i * 2 + 1]);
    y[i * y_stride] = sum * (x.scales[t + i] * row_scale);
  }
}

template <Encoding kEncoding, std::size_t kDigitsPerToken>
void Rows(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Rows& x, float* y,
          std::size_t y_stride) {
  constexpr std::size_t kTile = 8;  // digit rows that share a loaded and unpacked vector of weights
  ForTiles<kTile / kDigitsPerToken>(
      row_begin, row_end, x.tokens, [&](std::size_t row, std::size_t t, auto tokens) GEMMULE_LAMBDA {
        RowTile<kEncoding, kDigitsPerToken, tokens()>(w, row, x, t, y + t * y_stride + row, y_stride);
      });
}

template <Encoding kEncoding>
void RowsOfDigits(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Rows& x, float* y,
                  std::size_t y_stride) {
  if (x.digits == 1) return Rows<kEncoding, 1>(w, row_begin, row_end, x, y, y_stride);
  Rows<kEncoding, 2>(w, row_begin, row_end, x, y, y_stride);
}

void MatmulI8(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Rows& x, float* y,
              std::size_t y_stride) {
  switch (w.encoding) {
    case Encoding::kC2: return RowsOfDigits<Encoding::kC2>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kC4: return RowsOfDigits<Encoding::kC4>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kC8: return RowsOfDigits<Encoding::kC8>(w, row_begin, row_end, x, y, y_stride);
    case Encoding::kU8: return RowsOfDigits<Encoding::kU8>(w, row_begin, row_end, x, y, y_stride);
    default: HWY_DASSERT(false);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(MatmulI8);

void MatmulI8(const MatrixView& w, std::size_t row_begin, std::size_t row_end, const Int8Rows& x, float* y,
              std::size_t y_stride) noexcept {
  HWY_DASSERT(row_end <= w.rows && x.plane_stride == PlaneStride(w.encoding, w.cols));
  HWY_DYNAMIC_DISPATCH(MatmulI8)(w, row_begin, row_end, x, y, y_stride);
}

}  // namespace gemmule
#endif  // HWY_ONCE
