#include "kernels/limits.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/limits.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/dot-inl.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

std::uint32_t SumWords(const std::byte* data, std::size_t size) {
  const hn::ScalableTag<std::uint32_t> d;
  constexpr std::size_t kSums = 8;  // vectors in flight
  constexpr std::size_t kBytes = sizeof(std::uint32_t) * hn::MaxLanes(d);
  hn::Vec<decltype(d)> sum[kSums];
  Unroll<kSums>([&](auto i) GEMMULE_LAMBDA { sum[i] = hn::Zero(d); });
  const auto at = [&](std::size_t byte)
                      GEMMULE_LAMBDA { return hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(data + byte)); };
  std::size_t b = 0;
  for (; b + kSums * kBytes <= size; b += kSums * kBytes) {
    Unroll<kSums>([&](auto i) GEMMULE_LAMBDA { sum[i] = hn::Add(sum[i], at(b + i * kBytes)); });
  }
  for (; b < size; b += kBytes) sum[0] = hn::Add(sum[0], at(b));
  Unroll<kSums - 1>([&](auto i) GEMMULE_LAMBDA { sum[0] = hn::Add(sum[0], sum[i + 1]); });
  return hn::ReduceSum(d, sum[0]);
}

// Of the smallest codes, which need the fewest instructions.
using Products = CodeProducts<2>;
constexpr std::size_t kProductsOfLane = Products::kIn16 ? 2 : 4;

// x, of which the compiler knows nothing any more: no product is one that it has already.
template <class V>
HWY_INLINE V Unknown(V x) {
#if HWY_ARCH_X86
  asm volatile("" : "+v"(x.raw));
#else
  asm volatile("" : "+w"(x.raw));
#endif
  return x;
}

std::uint64_t MultiplyAdds(std::size_t rounds) {
  constexpr std::size_t kSums = 12;  // enough for a latency of six at two a cycle; with the factors in 16 registers
  const Products::D d;
  constexpr std::int32_t kCode = 3;
  constexpr std::int32_t kX = -5;
  const VU8 u = hn::Set(U8(), kCode);
  VI8 x = hn::Set(I8(), kX);
  Products::Sum sum[kSums];
  Unroll<kSums>([&](auto i) GEMMULE_LAMBDA { sum[i] = hn::Zero(d); });
  for (std::size_t round = 0; round < rounds; ++round) {
    Unroll<kSums>([&](auto i) GEMMULE_LAMBDA {
      x = Unknown(x);
      sum[i] = Products::Add(u, x, sum[i]);
    });
  }
  // Lanes wrap: each is what it must be, modulo its size.
  const auto lane = static_cast<std::int64_t>(rounds * kProductsOfLane) * kCode * kX;
  const auto want = hn::Set(d, static_cast<hn::TFromD<Products::D>>(lane));
  bool right = true;
  Unroll<kSums>([&](auto i) GEMMULE_LAMBDA { right = right && hn::AllTrue(d, hn::Eq(sum[i], want)); });
  return right ? std::uint64_t{rounds} * kSums * kByteLanes : 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(SumWords);
HWY_EXPORT(MultiplyAdds);

std::uint32_t SumWords(std::span<const std::byte> data) noexcept {
  HWY_DASSERT(data.size() % 64 == 0);
  return HWY_DYNAMIC_DISPATCH(SumWords)(data.data(), data.size());
}

std::uint64_t MultiplyAdds(std::size_t rounds) noexcept { return HWY_DYNAMIC_DISPATCH(MultiplyAdds)(rounds); }

}  // namespace gemmule
#endif  // HWY_ONCE
