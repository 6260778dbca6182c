// Blocks of a stored row, unpacked to groups of 32 signed codes with their scale and minimum.

#if defined(GEMMULE_KERNELS_GROUPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_GROUPS_INL_H_
#undef GEMMULE_KERNELS_GROUPS_INL_H_
#else
#define GEMMULE_KERNELS_GROUPS_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/lanes-inl.h"
#include "quant/blocks.h"
#include "quant/scale_view.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// The 32 bytes of a group: one register, or two on targets with 16 bytes.
using GU8 = hn::CappedTag<std::uint8_t, kGroup>;
using GI8 = hn::RebindToSigned<GU8>;
using VGU8 = hn::Vec<GU8>;
using VGI8 = hn::Vec<GI8>;
constexpr std::size_t kGroupBytes = hn::MaxLanes(GU8());
constexpr std::size_t kGroupRegs = kGroup / kGroupBytes;

constexpr bool HasMin(Encoding encoding) {
  return encoding == Encoding::kQ4_1 || encoding == Encoding::kQ5_1 || encoding == Encoding::kQ4_K ||
         encoding == Encoding::kQ5_K;
}

// value[j] = codes[j] * scale[j / 16] + min. Elements in step order (kernels/steps.h).
struct Group {
  VGI8 codes[kGroupRegs];
  float scale[2];
  float min = 0.0f;  // where HasMin

  // GCC for Arm cannot inline a register's constructor into one that the compiler writes, which knows no target.
  HWY_INLINE Group() {}
  void SetScale(float both) { scale[0] = scale[1] = both; }
};

HWY_INLINE float ToFloat(StoredF16 stored) {
  const hn::CappedTag<float, 4> d;
  return hn::GetLane(FromHalfBits(d, hn::Set(hn::Rebind<std::uint16_t, decltype(d)>(), stored.Bits())));
}

// Bytes shifted right (left where kShift < 0), and the bits of `mask` kept. The shift is one of 16-bit lanes: `mask`
// must have no bit that comes from a byte's neighbour.
template <int kShift, class V>
HWY_INLINE V ShiftAndMask(V bytes, int mask) {
  const hn::DFromV<V> d;
  const hn::Repartition<std::uint16_t, decltype(d)> d16;
  if constexpr (kShift > 0) bytes = hn::BitCast(d, hn::ShiftRight<kShift>(hn::BitCast(d16, bytes)));
  if constexpr (kShift < 0) bytes = hn::BitCast(d, hn::ShiftLeft<-kShift>(hn::BitCast(d16, bytes)));
  return hn::And(bytes, hn::Set(d, static_cast<std::uint8_t>(mask)));
}

// Register `r` of a group: the low four bits of 16 bytes as its elements 0-15, the high ones as 16-31.
HWY_INLINE VGU8 NibblesOfHalves(const std::uint8_t (&bytes)[16], std::size_t r) {
  const hn::Repartition<std::uint16_t, GU8> d16;
  const VGU8 low = hn::LoadDup128(GU8(), bytes);
  const VGU8 high = hn::BitCast(GU8(), hn::ShiftRight<4>(hn::BitCast(d16, low)));
  const VGU8 codes = kGroupRegs == 1 ? hn::ConcatUpperLower(GU8(), high, low) : r == 0 ? low : high;
  return hn::And(codes, hn::Set(GU8(), 15));
}

// `value` in the bytes of register `r` whose bit, of the group's 32, is set.
HWY_INLINE VGU8 WhereBit(const std::uint8_t (&bits)[4], std::size_t r, int value) {
  const auto mask = hn::LoadMaskBits(GU8(), bits + r * (kGroupBytes / 8));
  return hn::IfThenElseZero(mask, hn::Set(GU8(), static_cast<std::uint8_t>(value)));
}

HWY_INLINE VGI8 Minus(VGU8 codes, int offset) {
  return hn::Sub(hn::BitCast(GI8(), codes), hn::Set(GI8(), static_cast<std::int8_t>(offset)));
}

HWY_INLINE VGI8 Signed(VGU8 codes) { return hn::BitCast(GI8(), codes); }

// Unpacks the blocks from group number `first` of a row on, a multiple of a block's groups. Get<i>() is group first +
// i: any of a block's eight, or of the following blocks where each is one group.
template <Encoding kEncoding>
class Groups {
 public:
  static constexpr std::size_t kPerBlock = BlockElements(kEncoding) / kGroup;

  HWY_INLINE Groups(const std::byte* row, const ScaleView& scales, std::size_t first)
      : block_(reinterpret_cast<const Block<kEncoding>*>(row) + first / kPerBlock), scales_(scales), first_(first) {
    if constexpr (kEncoding == Encoding::kQ4_K || kEncoding == Encoding::kQ5_K) {
      Multiply(block_->groups.Scales(), ToFloat(block_->scale), scale_);
      Multiply(block_->groups.Minima(), -ToFloat(block_->min), min_);
    } else if constexpr (kEncoding == Encoding::kQ6_K) {
      const F32 d;
      const VF32 scale = hn::Set(d, ToFloat(block_->scale));
      Unroll<kRegs>([&](auto r) GEMMULE_LAMBDA {
        const auto codes = hn::LoadU(hn::Rebind<std::int8_t, F32>(), block_->scales + r * kLanes);
        const auto wide = hn::PromoteTo(hn::RebindToSigned<F32>(), codes);
        hn::Store(hn::Mul(hn::ConvertTo(d, wide), scale), d, scale_ + r * kLanes);
      });
    }
  }

  template <std::size_t kI>
  HWY_INLINE Group Get() const {
    Group group;
    Unroll<kGroupRegs>([&](auto r) GEMMULE_LAMBDA { group.codes[r] = Codes<kI>(r * kGroupBytes); });
    if constexpr (kEncoding == Encoding::kG4) {
      group.SetScale(scales_.At(first_ + kI));
    } else if constexpr (kPerBlock == 1) {
      group.SetScale(ToFloat(block_[kI].scale));
      if constexpr (HasMin(kEncoding)) group.min = ToFloat(block_[kI].min);
    } else if constexpr (kEncoding == Encoding::kQ6_K) {
      group.scale[0] = scale_[2 * kI];
      group.scale[1] = scale_[2 * kI + 1];
    } else {
      group.SetScale(scale_[kI]);
      group.min = min_[kI];
    }
    return group;
  }

 private:
  // The register of codes that begins with element `at` of group kI.
  template <std::size_t kI>
  HWY_INLINE VGI8 Codes(std::size_t at) const {
    constexpr int kOdd = kI % 2;
    const std::size_t r = at / kGroupBytes;
    if constexpr (kEncoding == Encoding::kQ8_0) {
      return hn::LoadU(GI8(), block_[kI].codes + at);
    } else if constexpr (kEncoding == Encoding::kG4 || kEncoding == Encoding::kQ4_0) {
      return Minus(NibblesOfHalves(block_[kI].codes, r), 8);
    } else if constexpr (kEncoding == Encoding::kQ4_1) {
      return Signed(NibblesOfHalves(block_[kI].codes, r));
    } else if constexpr (kEncoding == Encoding::kQ5_0 || kEncoding == Encoding::kQ5_1) {
      const auto& block = block_[kI];
      const VGU8 codes = hn::Or(NibblesOfHalves(block.low_bits, r), WhereBit(block.high_bits, r, 16));
      return kEncoding == Encoding::kQ5_0 ? Minus(codes, 16) : Signed(codes);
    } else if constexpr (kEncoding == Encoding::kQ4_K) {
      return Signed(ShiftAndMask<4 * kOdd>(hn::LoadU(GU8(), block_->codes + kI / 2 * kGroup + at), 15));
    } else if constexpr (kEncoding == Encoding::kQ5_K) {
      const VGU8 low = ShiftAndMask<4 * kOdd>(hn::LoadU(GU8(), block_->low_bits + kI / 2 * kGroup + at), 15);
      const VGU8 high = ShiftAndMask<static_cast<int>(kI) - 4>(hn::LoadU(GU8(), block_->high_bits + at), 16);
      return Signed(hn::Or(low, high));
    } else {
      constexpr std::size_t kHalf = kI / 4;
      constexpr std::size_t kOfHalf = kI % 4;
      const VGU8 low = hn::LoadU(GU8(), block_->low_bits + kHalf * 64 + kOfHalf % 2 * kGroup + at);
      const VGU8 high = hn::LoadU(GU8(), block_->high_bits + kHalf * kGroup + at);
      constexpr int kLowShift = kOfHalf < 2 ? 0 : 4;
      constexpr int kHighShift = 2 * static_cast<int>(kOfHalf) - 4;
      return Minus(hn::Or(ShiftAndMask<kLowShift>(low, 15), ShiftAndMask<kHighShift>(high, 48)), 32);
    }
  }

  // out[i] = byte i of `bytes` * factor.
  HWY_INLINE static void Multiply(std::uint64_t bytes, float factor, float* out) {
    const hn::CappedTag<float, 8> d;
    const hn::Rebind<std::uint8_t, decltype(d)> d8;
    std::uint8_t eight[8];
    std::memcpy(eight, &bytes, sizeof eight);
    for (std::size_t i = 0; i < 8; i += hn::Lanes(d)) {
      const auto wide = hn::PromoteTo(hn::RebindToSigned<decltype(d)>(), hn::LoadU(d8, eight + i));
      hn::Store(hn::Mul(hn::ConvertTo(d, wide), hn::Set(d, factor)), d, out + i);
    }
  }

  const Block<kEncoding>* block_;
  ScaleView scales_;
  std::size_t first_;
  HWY_ALIGN float scale_[16];  // Q4_K, Q5_K: 8 scales; Q6_K: 16
  HWY_ALIGN float min_[8];
};

// Calls body(g, parity, group) for the n groups of a row in order; parity is g % 2 as a constant.
template <Encoding kEncoding, class Body>
HWY_INLINE void ForGroups(const std::byte* row, const ScaleView& scales, std::size_t n, const Body& body) {
  constexpr std::size_t kStep = HWY_MAX(Groups<kEncoding>::kPerBlock, 2);
  std::size_t g = 0;
  for (; g + kStep <= n; g += kStep) {
    const Groups<kEncoding> groups(row, scales, g);
    Unroll<kStep>([&](auto i) GEMMULE_LAMBDA {
      body(g + i, std::integral_constant<std::size_t, i % 2>(), groups.template Get<i>());
    });
  }
  if constexpr (Groups<kEncoding>::kPerBlock == 1) {
    if (g < n) {
      body(g, std::integral_constant<std::size_t, 0>(), Groups<kEncoding>(row, scales, g).template Get<0>());
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_GROUPS_INL_H_
