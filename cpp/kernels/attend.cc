#include "kernels/attend.h"

#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attend.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/decode-inl.h"
#include "kernels/lanes-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gemmule {
namespace HWY_NAMESPACE {

constexpr std::size_t kBlock = KvView::kBlock;
// Accumulators that fit the registers beside what is multiplied.
constexpr std::size_t kSums = HWY_ARCH_ARM || kLanes == 16 ? 16 : 8;
constexpr std::size_t kQStride = kMaxHeadDim + kVirtualLanes;  // not 4096 bytes: those would share a set of the cache

// Elements in a 32-bit word of a key.
template <Encoding kEncoding>
constexpr std::size_t kPerWord = 4 * BlockElements(kEncoding) / BlockBytes(kEncoding);

using DWords = hn::RebindToSigned<F32>;

// Words of 4-bit codes as two's complement: what KeyElements takes.
template <Encoding kEncoding>
HWY_INLINE hn::Vec<DWords> LoadWords(const std::byte* words) {
  const DWords d;
  const auto v = hn::LoadU(d, reinterpret_cast<const std::int32_t*>(words));
  return kEncoding == Encoding::kC4 ? hn::Xor(v, hn::Set(d, static_cast<std::int32_t>(0x88888888))) : v;
}

// Element kI of the keys whose words these are.
template <Encoding kEncoding, std::size_t kI>
HWY_INLINE VF32 KeyElements(hn::Vec<DWords> words) {
  const F32 d;
  constexpr int kBits = 32 / kPerWord<kEncoding>;
  constexpr int kAbove = static_cast<int>(32 - (kI + 1) * kBits);
  const auto top = hn::ShiftLeft<kAbove>(words);
  if constexpr (kEncoding == Encoding::kF32) return hn::BitCast(d, words);
  if constexpr (kEncoding == Encoding::kBF16) {
    return hn::BitCast(d, hn::And(top, hn::Set(DWords(), static_cast<std::int32_t>(0xFFFF0000))));
  }
  return hn::ConvertTo(d, hn::ShiftRight<32 - kBits>(top));
}

// Scores of kQ queries and all keys of a block. scores [kQ][kBlock]; q [kQ][kQStride], zeros past the last element.
// `values`, as many bytes, and `next`, the keys after these, come closer meanwhile.
template <Encoding kEncoding, std::size_t kQ>
HWY_INLINE void Scores(const float* HWY_RESTRICT q, std::size_t words, const std::byte* keys, const std::byte* values,
                       const std::byte* next, float scale, float* HWY_RESTRICT scores) {
  constexpr std::size_t kVectors = HWY_MAX(1, HWY_MIN(kBlock / kLanes, kSums / kQ));
  constexpr std::size_t kWordBytes = 4 * KvView::kKeys;
  const F32 d;
  for (std::size_t first = 0; first < kBlock; first += kVectors * kLanes) {
    VF32 sum[kQ][kVectors];
    std::size_t at[kVectors];  // bytes from `keys` to the vectors' first words
    Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA {
      const std::size_t key = first + v * kLanes;
      at[v] = key / KvView::kKeys * words * kWordBytes + key % KvView::kKeys * 4;
      Unroll<kQ>([&](auto i) GEMMULE_LAMBDA { sum[i][v] = hn::Zero(d); });
    });
    for (std::size_t w = 0; w < words; ++w) {
      hn::Vec<DWords> key[kVectors];
      Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA {
        key[v] = LoadWords<kEncoding>(keys + at[v] + w * kWordBytes);
        hwy::Prefetch(values + at[v] + w * kWordBytes);
        __builtin_prefetch(next + at[v] + w * kWordBytes, 0, 2);  // into the second-level cache
      });
      Unroll<kPerWord<kEncoding>>([&](auto element) GEMMULE_LAMBDA {
        VF32 k[kVectors];
        Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA { k[v] = KeyElements<kEncoding, element()>(key[v]); });
        Unroll<kQ>([&](auto i) GEMMULE_LAMBDA {
          const VF32 x = hn::Set(d, q[i * kQStride + w * kPerWord<kEncoding> + element]);
          Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA { sum[i][v] = hn::MulAdd(k[v], x, sum[i][v]); });
        });
      });
    }
    const VF32 factor = hn::Set(d, scale);
    Unroll<kQ>([&](auto i) GEMMULE_LAMBDA {
      Unroll<kVectors>([&](auto v) GEMMULE_LAMBDA {
        hn::StoreU(hn::Mul(factor, sum[i][v]), d, scores + i * kBlock + first + v * kLanes);
      });
    });
  }
}

// What AddValues does, for kVectors vectors of items from `item` on, of whose items `count` are there, and for kPlanes
// of their planes.
template <Encoding kEncoding, std::size_t kQ, std::size_t kVectors, std::size_t kFirstPlane, std::size_t kPlanes,
          class Count>
HWY_INLINE void AddItems(const float* HWY_RESTRICT p, std::size_t begin, std::size_t end, const std::byte* values,
                         std::size_t row_bytes, std::size_t item, Count count, const float* HWY_RESTRICT keep,
                         float* HWY_RESTRICT out, std::size_t out_stride) {
  const F32 d;
  constexpr std::size_t kUnits = kVectors * kPlanes;
  constexpr auto kPlane = [](std::size_t unit) { return kFirstPlane + unit % kPlanes; };
  const auto at = [&](std::size_t unit) GEMMULE_LAMBDA { return item + unit / kPlanes * kLanes; };
  const auto place = [&](std::size_t i, std::size_t unit) GEMMULE_LAMBDA {
    const std::size_t step = at(unit) / kVirtualLanes * Planes(kEncoding) + kPlane(unit);
    return out + i * out_stride + step * kVirtualLanes + at(unit) % kVirtualLanes;
  };
  VF32 sum[kQ][kUnits];
  Unroll<kQ>([&](auto i) GEMMULE_LAMBDA {
    Unroll<kUnits>([&](auto u) GEMMULE_LAMBDA { sum[i][u] = hn::Mul(hn::Set(d, keep[i]), hn::LoadU(d, place(i, u))); });
  });
  for (std::size_t j = begin; j < end; ++j) {
    VF32 v[kUnits];
    Unroll<kUnits>([&](auto u) GEMMULE_LAMBDA {
      v[u] = Decode<kEncoding>(values + j * row_bytes, at(u), count, static_cast<int>(kPlane(u)));
    });
    Unroll<kQ>([&](auto i) GEMMULE_LAMBDA {
      const VF32 weight = hn::Set(d, p[i * kBlock + j]);
      Unroll<kUnits>([&](auto u) GEMMULE_LAMBDA { sum[i][u] = hn::MulAdd(weight, v[u], sum[i][u]); });
    });
  }
  Unroll<kQ>([&](auto i) GEMMULE_LAMBDA {
    Unroll<kUnits>([&](auto u) GEMMULE_LAMBDA { hn::StoreU(sum[i][u], d, place(i, u)); });
  });
}

// out (step order) = out * keep + sum over rows j in [begin, end) of p[j] * row j, for kQ queries. p [kQ][kBlock].
template <Encoding kEncoding, std::size_t kQ>
HWY_INLINE void AddValues(const float* p, std::size_t begin, std::size_t end, const std::byte* values, std::size_t e,
                          const float* keep, float* out, std::size_t out_stride) {
  constexpr std::size_t kRoom = HWY_MAX(1, kSums / kQ);  // vectors of a query
  constexpr std::size_t kPlanes = HWY_MIN(kRoom, Planes(kEncoding));
  constexpr std::size_t kVectors = kRoom / kPlanes;
  const std::size_t row_bytes = HeadBytes(kEncoding, e);
  const std::size_t items = e / Planes(kEncoding);
  const auto add = [&](std::size_t item, auto vectors, auto count) GEMMULE_LAMBDA {
    Unroll<Planes(kEncoding) / kPlanes>([&](auto pass) GEMMULE_LAMBDA {
      AddItems<kEncoding, kQ, vectors(), pass() * kPlanes, kPlanes>(p, begin, end, values, row_bytes, item, count, keep,
                                                                    out, out_stride);
    });
  };
  constexpr std::integral_constant<std::size_t, kLanes> kWhole;
  std::size_t item = 0;
  for (; item + kVectors * kLanes <= items; item += kVectors * kLanes) {
    add(item, std::integral_constant<std::size_t, kVectors>(), kWhole);
  }
  for (; item < items; item += kLanes) {
    add(item, std::integral_constant<std::size_t, 1>(), HWY_MIN(kLanes, items - item));
  }
}

// Unfinished answers of a tile: rows of a maximum, a sum and StepFloats weighted sums.
struct Answers {
  float* rows;
  std::size_t stride;

  HWY_INLINE float& Max(std::size_t i) const { return rows[i * stride]; }
  HWY_INLINE float& Sum(std::size_t i) const { return rows[i * stride + 1]; }
  HWY_INLINE float* Out(std::size_t i) const { return rows + i * stride + kAnswerHead; }
  HWY_INLINE std::size_t steps() const { return stride - kAnswerHead; }

  void Clear(std::size_t queries) const {
    for (std::size_t i = 0; i < queries * stride; i += kLanes) hn::StoreU(hn::Zero(F32()), F32(), rows + i);
    for (std::size_t i = 0; i < queries; ++i) Max(i) = -std::numeric_limits<float>::infinity();
  }

  // Query i of `more`, which saw keys behind these.
  void Add(const Answers& more, std::size_t i) const {
    if (more.Sum(i) == 0.0f) return;  // it saw none
    const F32 d;
    const VF32 max = hn::Set(d, HWY_MAX(Max(i), more.Max(i)));
    const VF32 keep = Exp(hn::Sub(hn::Set(d, Max(i)), max));  // 0 if there was no key
    const VF32 weight = Exp(hn::Sub(hn::Set(d, more.Max(i)), max));
    Max(i) = hn::GetLane(max);
    Sum(i) = Sum(i) * hn::GetLane(keep) + more.Sum(i) * hn::GetLane(weight);
    for (std::size_t s = 0; s < steps(); s += kLanes) {
      const VF32 kept = hn::Mul(keep, hn::LoadU(d, Out(i) + s));
      hn::StoreU(hn::MulAdd(weight, hn::LoadU(d, more.Out(i) + s), kept), d, Out(i) + s);
    }
  }
};

// Scores of the keys [begin, end) of a block to weights, 0 for the others; returns what the answer so far is to be
// multiplied by.
HWY_INLINE float Weigh(std::size_t begin, std::size_t end, float* HWY_RESTRICT scores, float& max, float& sum) {
  const F32 d;
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + begin, kNone);
  std::fill(scores + end, scores + kBlock, kNone);
  if (begin >= end) {
    std::fill(scores, scores + kBlock, 0.0f);
    return 1.0f;
  }
  VF32 most = hn::Set(d, max);
  for (std::size_t j = 0; j < kBlock; j += kLanes) most = hn::Max(most, hn::LoadU(d, scores + j));
  most = hn::MaxOfLanes(d, most);
  const float keep = hn::GetLane(Exp(hn::Sub(hn::Set(d, max), most)));  // 0 in the first block
  for (std::size_t j = 0; j < kBlock; j += kLanes) {
    hn::StoreU(Exp(hn::Sub(hn::LoadU(d, scores + j), most)), d, scores + j);
  }
  max = hn::GetLane(most);
  sum = sum * keep + SumOver(kBlock, [&](std::size_t j, std::size_t, VF32 s)
                                         GEMMULE_LAMBDA { return hn::Add(s, hn::LoadU(d, scores + j)); });
  return keep;
}

template <Encoding kEncoding, std::size_t kQ>
void AttendTile(const KvView& kv, const QueryTile& tile, std::size_t begin, std::size_t end, float* answers) {
  const std::size_t e = tile.head_dim;
  const std::size_t n = tile.queries();
  const std::size_t head_bytes = HeadBytes(kEncoding, e);
  const std::size_t words = head_bytes / 4;
  const auto head = [&](std::size_t position)
                        GEMMULE_LAMBDA { return kv.Block(position) + tile.kv_head * kBlock * head_bytes; };
  HWY_ALIGN float q[kQ * kQStride];
  for (std::size_t i = 0; i < kQ; ++i) {
    std::fill(q + i * kQStride, q + (i + 1) * kQStride, 0.0f);
    if (i < n) std::copy_n(tile.Query(i), e, q + i * kQStride);
  }

  const std::size_t span = tile.SpanBlocks() * kBlock;
  HWY_ALIGN float more[kQ * (kAnswerHead + kMaxHeadDim)];
  const std::size_t stride = AnswerFloats(kEncoding, e);
  for (std::size_t s = begin; s < end; ++s) {
    const Answers to{s == begin ? answers : more, stride};
    to.Clear(kQ);
    const std::size_t last = HWY_MIN((s + 1) * span, tile.Last(n - 1));
    for (std::size_t position = HWY_MAX(s * span, tile.First(0)); position < last;) {
      const std::size_t block = position / kBlock * kBlock;
      const auto row = [&](std::size_t key) GEMMULE_LAMBDA { return HWY_MIN(HWY_MAX(key, block) - block, kBlock); };
      const std::byte* keys = head(block);
      const std::byte* values = keys + kBlock * kv.row_bytes;
      HWY_ALIGN float p[kQ * kBlock];
      const std::byte* next = head(HWY_MIN(block + kBlock, tile.position));
      Scores<kEncoding, kQ>(q, words, keys, values, next, kv.k_scale, p);
      float keep[kQ];
      for (std::size_t i = 0; i < kQ; ++i) {
        const bool there = i < n;
        keep[i] =
            Weigh(there ? row(tile.First(i)) : 0, there ? row(tile.Last(i)) : 0, p + i * kBlock, to.Max(i), to.Sum(i));
      }
      AddValues<kEncoding, kQ>(p, row(tile.First(0)), row(last), values, e, keep, to.Out(0), stride);
      position = block + kBlock;
    }
    if (s == begin) continue;
    for (std::size_t i = 0; i < n; ++i) Answers{answers, stride}.Add(to, i);
  }
}

template <Encoding kEncoding>
void AttendEncoded(const KvView& kv, const QueryTile& tile, std::size_t begin, std::size_t end, float* answers) {
  const std::size_t n = tile.queries();
  if (n > 4) return AttendTile<kEncoding, 8>(kv, tile, begin, end, answers);
  if (n > 2) return AttendTile<kEncoding, 4>(kv, tile, begin, end, answers);
  if (n > 1) return AttendTile<kEncoding, 2>(kv, tile, begin, end, answers);
  AttendTile<kEncoding, 1>(kv, tile, begin, end, answers);
}

void AttendSpans(const KvView& kv, const QueryTile& tile, std::size_t begin, std::size_t end, float* answers) {
  switch (kv.encoding) {
    case Encoding::kF32: return AttendEncoded<Encoding::kF32>(kv, tile, begin, end, answers);
    case Encoding::kBF16: return AttendEncoded<Encoding::kBF16>(kv, tile, begin, end, answers);
    case Encoding::kC8: return AttendEncoded<Encoding::kC8>(kv, tile, begin, end, answers);
    case Encoding::kC4: return AttendEncoded<Encoding::kC4>(kv, tile, begin, end, answers);
    default: HWY_DASSERT(false);
  }
}

void FinishAttend(const KvView& kv, const QueryTile& tile, float* answers, std::size_t parts) {
  const F32 d;
  const std::size_t e = tile.head_dim;
  const Answers all{answers, AnswerFloats(kv.encoding, e)};
  for (std::size_t i = 0; i < tile.queries(); ++i) {
    for (std::size_t part = 1; part < parts; ++part) {
      all.Add({answers + part * TileFloats(kv.encoding, e), all.stride}, i);
    }
    const VF32 factor = hn::Set(d, kv.v_scale / all.Sum(i));
    const auto at = [&](std::size_t s) GEMMULE_LAMBDA { return hn::Mul(factor, hn::LoadU(d, all.Out(i) + s)); };
    HWY_ALIGN float out[kMaxHeadDim + 2 * kVirtualLanes];  // in the elements' own order
    if (Planes(kv.encoding) == 1) {
      for (std::size_t s = 0; s < all.steps(); s += kLanes) hn::StoreU(at(s), d, out + s);
    } else {
      for (std::size_t s = 0; s < all.steps(); s += 2 * kVirtualLanes) {
        for (std::size_t r = 0; r < kVirtualLanes; r += kLanes) {
          hn::StoreInterleaved2(at(s + r), at(s + kVirtualLanes + r), d, out + s + 2 * r);
        }
      }
    }
    std::copy_n(out, e, tile.Query(i));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemmule
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gemmule {

HWY_EXPORT(AttendSpans);
HWY_EXPORT(FinishAttend);

void AttendSpans(const KvView& kv, const QueryTile& tile, std::size_t begin, std::size_t end, float* answers) noexcept {
  HWY_DASSERT(begin < end && tile.queries() <= QueryTile::kMaxQueries && tile.head_dim <= kMaxHeadDim);
  HWY_DYNAMIC_DISPATCH(AttendSpans)(kv, tile, begin, end, answers);
}

void FinishAttend(const KvView& kv, const QueryTile& tile, float* answers, std::size_t parts) noexcept {
  HWY_DYNAMIC_DISPATCH(FinishAttend)(kv, tile, answers, parts);
}

}  // namespace gemmule
#endif  // HWY_ONCE
