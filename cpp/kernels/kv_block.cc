#include "kernels/kv_block.h"

#include <algorithm>
#include <cstring>

#include "quant/row.h"

namespace gemmule {
namespace {

constexpr std::size_t kWord = 4;  // bytes

// Bytes from a head's keys to the first word of a row's key, whose words lie kKeys apart.
std::size_t FirstWord(std::size_t row, std::size_t head_bytes) {
  return row / KvView::kKeys * KvView::kKeys * head_bytes + row % KvView::kKeys * kWord;
}

void StoreKey(std::span<const std::byte> key, std::size_t row, std::byte* keys) {
  std::byte* first = keys + FirstWord(row, key.size());
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

void CopyFromBlock(Encoding encoding, std::size_t heads, std::size_t e, std::size_t position, const std::byte* block,
                   std::byte* bytes) {
  const std::size_t row = position % KvView::kBlock;
  const std::size_t head_bytes = HeadBytes(encoding, e);
  const std::size_t row_bytes = RowBytes(encoding, e);
  for (std::size_t g = 0; g < heads; ++g) {
    const std::byte* first = block + g * KvView::kBlock * head_bytes + FirstWord(row, head_bytes);
    std::byte* key = bytes + g * row_bytes;
    for (std::size_t at = 0; at < row_bytes; at += kWord) {
      std::memcpy(key + at, first + at * KvView::kKeys, std::min(kWord, row_bytes - at));
    }
    std::memcpy(bytes + (heads + g) * row_bytes, block + ((heads + g) * KvView::kBlock + row) * head_bytes, row_bytes);
  }
}

void CopyIntoBlock(Encoding encoding, std::size_t heads, std::size_t e, std::size_t position, const std::byte* bytes,
                   std::byte* block) {
  const std::size_t row = position % KvView::kBlock;
  const std::size_t head_bytes = HeadBytes(encoding, e);
  const std::size_t row_bytes = RowBytes(encoding, e);
  std::byte key[kMaxHeadDim * sizeof(float)] = {};
  for (std::size_t g = 0; g < heads; ++g) {
    std::memcpy(key, bytes + g * row_bytes, row_bytes);
    StoreKey({key, head_bytes}, row, block + g * KvView::kBlock * head_bytes);
    std::memcpy(block + ((heads + g) * KvView::kBlock + row) * head_bytes, bytes + (heads + g) * row_bytes, row_bytes);
  }
}

}  // namespace gemmule
