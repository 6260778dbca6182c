// Rows of 2-, 4- or 8-bit codes times one or two rows of activations: as fast as the rows come from memory.

#if defined(GEMMULE_KERNELS_CODE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_CODE_ROWS_INL_H_
#undef GEMMULE_KERNELS_CODE_ROWS_INL_H_
#else
#define GEMMULE_KERNELS_CODE_ROWS_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <limits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/dot-inl.h"
#include "kernels/int8_rows.h"
#include "kernels/lanes-inl.h"
#include "quant/channelwise.h"
#include "quant/matrix.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Codes of an encoding as operands of CodeProducts.
template <Encoding kEncoding>
struct CodesOf {
  using C = Channelwise<kEncoding>;
  using Products = CodeProducts<C::kBits>;
  static constexpr bool kAsStored = C::kBits < 8 || Products::kUnsignedBytes == (kEncoding == Encoding::kU8);
  // What an operand lies above its code.
  static constexpr std::int32_t kOffset = C::kBits < 8 ? C::kOffset : Products::kUnsignedBytes ? 128 : 0;

  // A plane of packed bytes.
  template <std::size_t kPlane>
  static HWY_INLINE VU8 Plane(VU8 bytes) {
    if constexpr (C::kBits == 8) {
      return kAsStored ? bytes : hn::Xor(bytes, hn::Set(U8(), 0x80));
    } else {
      // A shift of 16-bit lanes: bits of the upper byte come down and are masked away.
      const hn::Repartition<std::uint16_t, U8> d16;
      const auto shifted = hn::ShiftRight<static_cast<int>(kPlane * C::kBits)>(hn::BitCast(d16, bytes));
      return hn::And(hn::BitCast(U8(), shifted), hn::Set(U8(), C::kMask));
    }
  }

  // Where an operand may have all eight bits, small codes are multiplied where they stand in the byte, and the sum of a
  // plane is shifted instead: it is a multiple of 2^(kPlane * kBits).
  static constexpr bool kInPlace = GEMMULE_HAVE_VNNI && C::kBits < 8;
  static constexpr std::size_t kSums = kInPlace ? C::kPerByte : 1;
  template <std::size_t kPlane>
  static HWY_INLINE VU8 Operand(VU8 bytes) {
    if constexpr (kInPlace) {
      return hn::And(bytes, hn::Set(U8(), static_cast<std::uint8_t>(C::kMask << (kPlane * C::kBits))));
    } else {
      return Plane<kPlane>(bytes);
    }
  }
};

// Adds up the blocks of 16 bytes.
template <class V>
HWY_INLINE auto SumBlocks(V v) {
  if constexpr (sizeof(v) > 16) {
    const hn::Half<hn::DFromV<V>> half;
    return SumBlocks(hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    return v;
  }
}

// The sums of the lanes of each of four vectors.
HWY_INLINE void StoreLaneSums(const VI32 (&v)[4], std::int32_t (&out)[4]) {
  const I32 d;
  const VI32 v02 = hn::Add(hn::InterleaveLower(d, v[0], v[2]), hn::InterleaveUpper(d, v[0], v[2]));
  const VI32 v13 = hn::Add(hn::InterleaveLower(d, v[1], v[3]), hn::InterleaveUpper(d, v[1], v[3]));
  const VI32 sum = hn::Add(hn::InterleaveLower(d, v02, v13), hn::InterleaveUpper(d, v02, v13));
  const auto block = SumBlocks(sum);
  hn::StoreU(block, hn::DFromV<decltype(block)>(), out);
}

// What is asked of the memory is asked again so many bytes before it is needed: a processor drops requests when it has
// too many (docs/decisions/0023).
constexpr std::size_t kAgain = 512;

// Sums of kRows rows, the first `count` of which are wanted, by all rows of x: out[row of x][stride], 4 sums in all.
template <Encoding kEncoding, std::size_t kRows>
HWY_INLINE void FourSums(const std::uint8_t* const (&rows)[kRows], std::size_t row_bytes, std::size_t ahead,
                         const Int8Rows& x, std::int32_t (&out)[4]) {
  using Codes = CodesOf<kEncoding>;
  using Products = typename Codes::Products;
  constexpr std::size_t kXRows = 4 / kRows;
  constexpr std::size_t kPlanes = Channelwise<kEncoding>::kPerByte;
  VI32 total[4];
  Unroll<4>([&](auto i) GEMMULE_LAMBDA { total[i] = hn::Zero(I32()); });
  typename Products::Sum sum[4][Codes::kSums];
  const auto zero = [&]() GEMMULE_LAMBDA {
    Unroll<4>([&](auto i) GEMMULE_LAMBDA {
      Unroll<Codes::kSums>([&](auto plane) GEMMULE_LAMBDA { sum[i][plane] = Products::Zero(); });
    });
  };
  const auto add = [&](std::size_t b, const auto& load) GEMMULE_LAMBDA {
    Unroll<kRows>([&](auto r) GEMMULE_LAMBDA {
      const VU8 bytes = load(rows[r] + b);
      Unroll<kPlanes>([&](auto plane) GEMMULE_LAMBDA {
        const VU8 codes = Codes::template Operand<plane()>(bytes);
        Unroll<kXRows>([&](auto i) GEMMULE_LAMBDA {
          const VI8 v = hn::LoadU(I8(), x.codes + (i * kPlanes + plane) * x.plane_codes + b);
          auto& s = sum[r * kXRows + i][plane % Codes::kSums];
          s = Products::Add(codes, v, s);
        });
      });
    });
  };
  const auto widen = [&]() GEMMULE_LAMBDA {
    Unroll<4>([&](auto i) GEMMULE_LAMBDA {
      Unroll<Codes::kSums>([&](auto plane) GEMMULE_LAMBDA {
        constexpr int kShift = static_cast<int>(plane() * Channelwise<kEncoding>::kBits);
        total[i] = hn::Add(total[i], hn::ShiftRight<kShift>(Products::Widen(sum[i][plane])));
      });
    });
  };
  constexpr std::size_t kStretch =  // bytes until the sums are full
      Products::kIn16 ? Products::kRoom / kPlanes * kByteLanes : std::numeric_limits<std::size_t>::max() / 2;
  std::size_t b = 0;
  while (b < row_bytes) {
    zero();
    const std::size_t end = HWY_MIN(row_bytes, b + kStretch);
    for (; b + kByteLanes <= end; b += kByteLanes) {
      add(b, [&](const std::uint8_t* p) GEMMULE_LAMBDA {
        hwy::Prefetch(p + ahead);
        hwy::Prefetch(p + kAgain);
        return hn::LoadU(U8(), p);
      });
    }
    if (b < end) {  // past the row's end the activations are zero
      add(b, [&](const std::uint8_t* p) GEMMULE_LAMBDA { return hn::LoadN(U8(), p, end - b); });
      b = end;
    }
    widen();
  }
  StoreLaneSums(total, out);
}

template <Encoding kEncoding, std::size_t kRows>
HWY_INLINE void RowSumsBy(const MatrixView& w, std::size_t row, std::size_t count, const Int8Rows& x,
                          std::size_t stride, std::int32_t* HWY_RESTRICT sums) {
  // What is read some hundred nanoseconds later: rows further down.
  const std::size_t ahead = RoundUp(8192, kRows * (w.RowBytes() + w.padding));
  for (std::size_t i = 0; i < count; i += kRows) {
    const std::uint8_t* rows[kRows];
    for (std::size_t r = 0; r < kRows; ++r) {
      rows[r] = reinterpret_cast<const std::uint8_t*>(w.Row(row + HWY_MIN(i + r, count - 1)));
    }
    std::int32_t out[4];
    FourSums<kEncoding, kRows>(rows, w.RowBytes(), ahead, x, out);
    for (std::size_t r = 0; r < kRows; ++r) {
      for (std::size_t j = 0; j < 4 / kRows; ++j) sums[j * stride + i + r] = out[r * (4 / kRows) + j];
    }
  }
}

// Sums of rows [row, row + count) by the one or two rows of x: sums[row of x][stride].
template <Encoding kEncoding>
HWY_INLINE void RowSums(const MatrixView& w, std::size_t row, std::size_t count, const Int8Rows& x, std::size_t stride,
                        std::int32_t* HWY_RESTRICT sums) {
  if (x.rows() == 1) return RowSumsBy<kEncoding, 4>(w, row, count, x, stride, sums);
  RowSumsBy<kEncoding, 2>(w, row, count, x, stride, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_CODE_ROWS_INL_H_
