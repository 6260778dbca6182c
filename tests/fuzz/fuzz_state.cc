// Any bytes as the cache of a saved chat. 16 bytes say what model it is for and how far the states are from the sizes
// that they should have; the rest are the states.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/error.h"
#include "model/kv_cache.h"
#include "refusal.h"

namespace {

using gemmule::KvCache;
using gemmule::LayerType;

using Bytes = std::span<const std::byte>;

constexpr std::size_t kChunk = 64;  // tokens

struct Header {
  std::uint8_t kv;
  std::uint8_t sliding_window;
  std::uint8_t half_head_dim[2];        // of sliding and of full layers
  std::uint8_t num_key_value_heads[2];  // likewise
  std::uint8_t odd_state;               // which state is longer, or shorter
  std::int8_t odd_bytes;
  std::uint64_t length;  // tokens
};
static_assert(sizeof(Header) == 16);

gemmule::Model MakeModel(const Header& header) {
  gemmule::Model model;
  model.kv = static_cast<gemmule::KvMode>(header.kv % 3);
  model.config.sliding_window = std::size_t{1} + header.sliding_window;
  for (std::size_t i = 0; i < 4; ++i) {  // the last two read the keys and values of the first two
    model.config.layers.push_back({.type = i % 2 == 0 ? LayerType::kSliding : LayerType::kFull,
                                   .head_dim = 2 * (std::size_t{1} + header.half_head_dim[i % 2]),
                                   .num_key_value_heads = std::size_t{1} + header.num_key_value_heads[i % 2] % 4,
                                   .kv_owner = i % 2});
  }
  model.weights.layers.resize(4);
  return model;
}

// Of the sizes that they should have, but for the odd one; as far as there are bytes.
std::vector<Bytes> Cut(const Header& header, std::span<const KvCache::Extent> extents, Bytes bytes) {
  std::vector<Bytes> states;
  for (const KvCache::Extent& extent : extents) {
    const bool odd = states.size() == header.odd_state;
    const std::size_t wanted = extent.bytes + static_cast<std::size_t>(odd ? header.odd_bytes : 0);
    states.push_back(bytes.first(std::min(wanted, bytes.size())));
    bytes = bytes.subspan(states.back().size());
  }
  if (header.odd_state == states.size()) states.pop_back();
  return states;
}

// What was taken in comes out again.
void CheckExport(const KvCache& cache, std::span<const KvCache::Extent> extents, std::span<const Bytes> states) {
  for (std::size_t i = 0; i < states.size(); ++i) {
    std::vector<std::byte> copy(extents[i].bytes);
    cache.Export(extents[i], copy);
    if (!std::ranges::equal(copy, states[i])) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Header header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, data, sizeof header);
  const gemmule::Model model = MakeModel(header);
  KvCache cache(model, kChunk);
  try {
    const std::vector<KvCache::Extent> extents = cache.Extents(header.length);
    const std::vector<Bytes> states = Cut(header, extents, std::as_bytes(std::span(data, size)).subspan(sizeof header));
    cache.Import(header.length, states);
    CheckExport(cache, extents, states);
    if (!cache.Holds(header.length)) std::abort();
  } catch (const gemmule::FormatError& error) {
    gemmule::fuzz::Require(cache.bytes() == 0, error);  // the file's name comes from Python
  }
  return 0;
}
