#include "kernels/kv_block.h"

#include <cstring>

#include "quant/row.h"

namespace gemmule {
namespace {

constexpr std::size_t kWord = 4;  // bytes

void StoreKey(std::span<const std::byte> key, std::size_t row, std::byte* keys) {
  std::byte* first = keys + row / KvView::kKeys * KvView::kKeys * key.size() + row % KvView::kKeys * kWord;
  for (std::size_t at = 0; at < key.size(); at += kWord) {
    std::memcpy(first + at * KvView::kKeys, key.data() + at, kWord);
  }
}

}  // namespace

void StoreKeysValues(Encoding encoding, std::span<const float> keys, std::span<const float> values, std::size_t e,
                     float k_scale, float v_scale, std::size_t position, std::byte* block) {
  const std::size_t row = position % KvView::kBlock;
  const std::size_t bytes = HeadBytes(encoding, e);
  const std::size_t heads = keys.size() / e;
  std::byte key[kMaxHeadDim * sizeof(float)] = {};
  for (std::size_t g = 0; g < heads; ++g) {
    EncodeRow(encoding, keys.subspan(g * e, e), k_scale, key);
    StoreKey({key, bytes}, row, block + g * KvView::kBlock * bytes);
    EncodeRow(encoding, values.subspan(g * e, e), v_scale, block + ((heads + g) * KvView::kBlock + row) * bytes);
  }
}

}  // namespace gemmule
