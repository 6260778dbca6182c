#include "kernels/elementwise.h"

#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/lanes-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

void ExpAll(const float* x, float* y, std::size_t n) {
  MapOver(n, y, [=](std::size_t i, std::size_t count) GEMMULE_LAMBDA { return Exp(LoadCount(x + i, count)); });
}

void GeluMul(const float* gate, const float* up, float* y, std::size_t n) {
  const F32 d;
  const VF32 kOne = hn::Set(d, 1.0f);
  const VF32 kCubic = hn::Set(d, 0.044715f);
  const VF32 kMinusTwoSqrtTwoOverPi = hn::Set(d, -1.5957691216057308f);
  MapOver(n, y, [=](std::size_t i, std::size_t count) GEMMULE_LAMBDA {
    const VF32 x = LoadCount(gate + i, count);
    const VF32 inner = hn::MulAdd(hn::Mul(kCubic, hn::Mul(x, x)), x, x);
    const VF32 gelu = hn::Div(x, hn::Add(kOne, Exp(hn::Mul(kMinusTwoSqrtTwoOverPi, inner))));
    return hn::Mul(gelu, LoadCount(up + i, count));
  });
}

// tanh(|t|) = (1 - e) / (1 + e) with e = exp(-2|t|); the sign is put back.
void Softcap(float cap, float* x, std::size_t n) {
  const F32 d;
  const VF32 kOne = hn::Set(d, 1.0f);
  const VF32 kMinusTwo = hn::Set(d, -2.0f);
  const VF32 vcap = hn::Set(d, cap);
  MapOver(n, x, [=](std::size_t i, std::size_t count) GEMMULE_LAMBDA {
    const VF32 t = hn::Div(LoadCount(x + i, count), vcap);
    const VF32 e = Exp(hn::Mul(kMinusTwo, hn::Abs(t)));
    const VF32 tanh = hn::Div(hn::Sub(kOne, e), hn::Add(kOne, e));
    return hn::Mul(vcap, hn::CopySign(tanh, t));
  });
}

void RoundToGrid(float scale, float* x, std::size_t n) {
  const F32 d;
  const VF32 vscale = hn::Set(d, scale);
  const VF32 kMin = hn::Set(d, -128.0f);
  const VF32 kMax = hn::Set(d, 127.0f);
  MapOver(n, x, [=](std::size_t i, std::size_t count) GEMMULE_LAMBDA {
    const VF32 code = hn::Round(hn::Div(LoadCount(x + i, count), vscale));
    const VF32 clamped = hn::Min(hn::Max(code, kMin), kMax);
    return hn::Mul(hn::IfThenElse(hn::IsNaN(code), code, clamped), vscale);
  });
}

void AddTo(const float* x, float* y, std::size_t n) {
  MapOver(n, y, [=](std::size_t i, std::size_t count) GEMMULE_LAMBDA {
    return hn::Add(LoadCount(y + i, count), LoadCount(x + i, count));
  });
}

void Scale(float factor, float* x, std::size_t n) {
  const VF32 vfactor = hn::Set(F32(), factor);
  MapOver(n, x,
          [=](std::size_t i, std::size_t count) GEMMULE_LAMBDA { return hn::Mul(vfactor, LoadCount(x + i, count)); });
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(ExpAll);
HWY_EXPORT(GeluMul);
HWY_EXPORT(Softcap);
HWY_EXPORT(RoundToGrid);
HWY_EXPORT(AddTo);
HWY_EXPORT(Scale);

void Exp(std::span<const float> x, std::span<float> y) noexcept {
  HWY_DASSERT(x.size() == y.size());
  HWY_DYNAMIC_DISPATCH(ExpAll)(x.data(), y.data(), x.size());
}

void GeluMul(std::span<const float> gate, std::span<const float> up, std::span<float> y) noexcept {
  HWY_DASSERT(gate.size() == up.size() && gate.size() == y.size());
  HWY_DYNAMIC_DISPATCH(GeluMul)(gate.data(), up.data(), y.data(), y.size());
}

void Softcap(float cap, std::span<float> x) noexcept { HWY_DYNAMIC_DISPATCH(Softcap)(cap, x.data(), x.size()); }

void RoundToGrid(float scale, std::span<float> x) noexcept {
  if (scale == 0.0f) return;
  HWY_DYNAMIC_DISPATCH(RoundToGrid)(scale, x.data(), x.size());
}

void AddTo(std::span<const float> x, std::span<float> y) noexcept {
  HWY_DASSERT(x.size() == y.size());
  HWY_DYNAMIC_DISPATCH(AddTo)(x.data(), y.data(), x.size());
}

void Scale(float factor, std::span<float> x) noexcept { HWY_DYNAMIC_DISPATCH(Scale)(factor, x.data(), x.size()); }

}  // namespace gemmule
#endif  // HWY_ONCE
