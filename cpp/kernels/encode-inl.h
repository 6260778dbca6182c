// What the encoders share: registers of a group, rounding to a narrower float, and the tally of what encoding did.

#if defined(GEMMULE_KERNELS_ENCODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_ENCODE_INL_H_
#undef GEMMULE_KERNELS_ENCODE_INL_H_
#else
#define GEMMULE_KERNELS_ENCODE_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "kernels/lanes-inl.h"
#include "quant/block.h"
#include "quant/encode_counts.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

using I32 = hn::RebindToSigned<F32>;
using U32 = hn::RebindToUnsigned<F32>;
using U8 = hn::Rebind<std::uint8_t, F32>;

// Registers that hold the 32 elements of a group; register r holds the virtual lanes of register r % kRegs.
constexpr std::size_t kGroupVectors = kGroup / kLanes;
using GroupVectors = VF32[kGroupVectors];

HWY_INLINE void LoadGroup(const float* x, GroupVectors& v) {
  Unroll<kGroupVectors>([&](auto r) GEMMULE_LAMBDA { v[r] = hn::LoadU(F32(), x + r * kLanes); });
}

// The nearest float16, ties to even; from 65520 on infinity. A NaN stays one.
HWY_INLINE VF32 NearestHalf(VF32 x) {
  const F32 d;
  const VF32 half = hn::PromoteTo(d, hn::DemoteTo(hn::Rebind<hwy::float16_t, F32>(), x));
  // What stands in for PromoteTo on SSE2 knows neither infinity nor NaN.
  const auto is_finite = hn::Lt(hn::Abs(x), hn::Set(d, 65520.0f));
  return hn::IfThenElse(is_finite, half, hn::Mul(x, hn::Set(d, std::numeric_limits<float>::infinity())));
}
HWY_INLINE std::uint16_t HalfBits(float x) {
  const hn::CappedTag<float, 4> d;
  const hn::Rebind<std::uint16_t, decltype(d)> d16;
  const auto half = hn::DemoteTo(hn::Rebind<hwy::float16_t, decltype(d)>(), hn::Set(d, x));
  return hn::GetLane(hn::BitCast(d16, half));
}

// The least float16 that is not below x > 0, and the greatest that is not above.
HWY_INLINE float HalfNotBelow(float x) {
  const std::uint16_t bits = HalfBits(x);
  return FloatFromF16(FloatFromF16(bits) < x ? bits + 1 : bits);
}
HWY_INLINE float HalfNotAbove(float x) {
  const std::uint16_t bits = HalfBits(x);
  return FloatFromF16(FloatFromF16(bits) > x ? bits - 1 : bits);
}

// The nearest bfloat16, ties to even. A NaN stays one.
HWY_INLINE VF32 NearestBrain(VF32 x) {
  const U32 du;
  const auto bits = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF)));
  const auto nan = hn::Or(bits, hn::Set(du, 0x400000));
  const auto kept = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(x)), nan, rounded);
  return hn::BitCast(F32(), hn::And(kept, hn::Set(du, 0xFFFF0000u)));
}

// The first virtual lane with the least value.
HWY_INLINE std::size_t LeastLane(const VF32 (&values)[kRegs]) {
  const F32 d;
  VF32 least = values[0];
  Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA { least = hn::Min(least, values[r]); });
  least = hn::MinOfLanes(d, least);
  std::uint64_t where = std::uint64_t{1} << (kVirtualLanes - 1);  // where all are NaN, any lane will do
  Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA { where |= hn::BitsFromMask(d, hn::Eq(values[r], least)) << (r * kLanes); });
  return hwy::Num0BitsBelowLS1Bit_Nonzero64(where);
}

// The float type that weights were widened from.
class SourceType {
 public:
  explicit SourceType(Encoding encoding)
      : dropped_(encoding == Encoding::kBF16  ? 16
                 : encoding == Encoding::kF16 ? 13
                                              : 0),
        half_(dropped_ == 0 ? 0 : 1 << (dropped_ - 1)),
        last_(dropped_ == 0 ? 0 : 1 << dropped_) {}

  // The nearest number of the type, ties to even, for multiples of 2^-24: they need no subnormal float16.
  HWY_INLINE VF32 Round(VF32 x) const {
    const U32 du;
    const auto bits = hn::BitCast(du, x);
    const auto odd = hn::ShiftRightSame(hn::And(bits, hn::Set(du, last_)), dropped_);
    const auto up = hn::Add(odd, hn::Set(du, half_ == 0 ? 0 : half_ - 1));
    return hn::BitCast(F32(), hn::And(hn::Add(bits, up), hn::Set(du, ~((std::uint32_t{1} << dropped_) - 1))));
  }

  // What rounds to x > 0, a number of the type, lies between low and high. Both are moved by up to 2^-18 of x, outwards
  // where the end itself rounds to x, inwards where it does not: a product of a float16 and a code has at most 15 bits,
  // so that it is an end or farther from it than that.
  HWY_INLINE void Interval(VF32 x, VF32& low, VF32& high) const {
    const U32 du;
    const auto bits = hn::BitCast(du, x);
    const auto is_odd = hn::Ne(hn::And(bits, hn::Set(du, last_)), hn::Zero(du));  // such numbers lose their ties
    const auto reach = hn::IfThenElse(is_odd, hn::Set(du, half_ - kMargin), hn::Set(du, half_ + kMargin));
    low = hn::BitCast(F32(), hn::Sub(bits, reach));
    high = hn::BitCast(F32(), hn::Add(bits, reach));
  }

 private:
  static constexpr std::uint32_t kMargin = 32;  // units in the last place of a float32

  int dropped_;         // bits of a float32's significand that the type does not have
  std::uint32_t half_;  // of the distance of two numbers of the type, in units of the last place of a float32
  std::uint32_t last_;  // the last bit that it has
};

// A sum of squares, in double: virtual lane j has elements j, j + 16, ...
class Squares {
 public:
  HWY_INLINE Squares() {
    for (auto& sum : sums_) sum = hn::Zero(F64());
  }

  // Elements x of register r.
  template <class R>
  HWY_INLINE void Add(R, VF32 x) {
    constexpr std::size_t kAt = 2 * (R::value % kRegs);
    const auto low = hn::PromoteLowerTo(F64(), x);
    const auto high = hn::PromoteUpperTo(F64(), x);
    sums_[kAt] = hn::MulAdd(low, low, sums_[kAt]);
    sums_[kAt + 1] = hn::MulAdd(high, high, sums_[kAt + 1]);
  }

  // One lane after the other.
  HWY_INLINE double Sum() const {
    HWY_ALIGN double lanes[kVirtualLanes];
    for (std::size_t r = 0; r < 2 * kRegs; ++r) hn::Store(sums_[r], F64(), lanes + r * hn::MaxLanes(F64()));
    double sum = 0.0;
    for (const double lane : lanes) sum += lane;
    return sum;
  }

 private:
  using F64 = hn::Repartition<double, F32>;

  hn::Vec<F64> sums_[2 * kRegs];
};

// Adds up what became of a row's elements.
class Tally {
 public:
  HWY_INLINE Tally() {
    for (auto& count : saturated_) count = hn::Zero(I32());
  }

  // Elements x of register r and what they are decoded as.
  template <class R>
  HWY_INLINE void Add(R r, VF32 x, VF32 decoded) {
    squares_.Add(r, x);
    errors_.Add(r, hn::Sub(x, decoded));
  }

  template <class R>
  HWY_INLINE void AddSaturated(R, hn::Mask<F32> is_saturated) {
    constexpr std::size_t kAt = R::value % kRegs;
    saturated_[kAt] = hn::Sub(saturated_[kAt], hn::VecFromMask(I32(), hn::RebindMask(I32(), is_saturated)));
  }

  // Elements that came back.
  void AddOnGrid(std::size_t elements) { on_grid_ += elements; }

  HWY_INLINE void AddTo(EncodeCounts& counts, std::size_t elements) const {
    counts.elements += elements;
    counts.on_grid += on_grid_;
    counts.squares += squares_.Sum();
    counts.error_squares += errors_.Sum();
    Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
      counts.saturated += static_cast<std::uint64_t>(hn::ReduceSum(I32(), saturated_[r]));
    });
  }

 private:
  std::uint64_t on_grid_ = 0;
  hn::Vec<I32> saturated_[kRegs];
  Squares squares_;
  Squares errors_;
};

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_ENCODE_INL_H_
