// Words of several rows, turned so that lanes are rows.

#if defined(GEMMULE_KERNELS_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GEMMULE_KERNELS_TRANSPOSE_INL_H_
#undef GEMMULE_KERNELS_TRANSPOSE_INL_H_
#else
#define GEMMULE_KERNELS_TRANSPOSE_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/dot-inl.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

// Four vectors of words, each with a word from as many rows as it has lanes, from 16 bytes of each row:
// block q of vector j holds word j of rows 4q ... 4q + 3. load(r): the 16 bytes of row r.
template <class Load>
HWY_INLINE void TransposeWords(const Load& load, VI32 (&out)[4]) {
  const I32 d;
  VI32 v[4];
  Unroll<4>([&](auto r) GEMMULE_LAMBDA {
    v[r] = hn::ResizeBitCast(d, load(r()));
    Unroll<kByteLanes / 16 - 1>([&](auto block) GEMMULE_LAMBDA {
      v[r] = hn::InsertBlock<static_cast<int>(block() + 1)>(v[r], load(4 * (block() + 1) + r()));
    });
  });
  const VI32 low02 = hn::InterleaveLower(d, v[0], v[2]);
  const VI32 low13 = hn::InterleaveLower(d, v[1], v[3]);
  const VI32 high02 = hn::InterleaveUpper(d, v[0], v[2]);
  const VI32 high13 = hn::InterleaveUpper(d, v[1], v[3]);
  out[0] = hn::InterleaveLower(d, low02, low13);
  out[1] = hn::InterleaveUpper(d, low02, low13);
  out[2] = hn::InterleaveLower(d, high02, high13);
  out[3] = hn::InterleaveUpper(d, high02, high13);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#endif  // GEMMULE_KERNELS_TRANSPOSE_INL_H_
