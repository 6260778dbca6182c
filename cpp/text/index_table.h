// A hash table of indices: from hashes to places in an array that somebody else keeps.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace gemmule {

// One number a process, so that no file can be made whose entries all collide.
std::uint64_t HashSeed();

// Both halves of the product of two numbers, folded: every bit of the result depends on every bit of both.
inline std::uint64_t Mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

inline std::uint32_t Hash(std::uint64_t number, std::uint64_t seed) {
  return static_cast<std::uint32_t>(Mix(number ^ seed, 0x9E3779B97F4A7C15));
}

// The bytes of a text of at most 8 as a number, which differs from those of other texts of the same size.
inline std::uint64_t ShortText(std::string_view text) {
  if (text.size() >= 4) {  // first four and last four, which may be partly the same
    std::uint32_t first = 0, last = 0;
    std::memcpy(&first, text.data(), sizeof(first));
    std::memcpy(&last, text.data() + text.size() - sizeof(last), sizeof(last));
    return std::uint64_t{first} << 32 | last;
  }
  std::uint64_t number = 0;
  for (const char byte : text) number = number << 8 | static_cast<unsigned char>(byte);
  return number;
}

// The seed goes into every step, so that who does not know it cannot choose texts that collide.
inline std::uint32_t Hash(std::string_view text, std::uint64_t seed) {
  std::uint64_t hash = text.size();
  for (; text.size() > 8; text.remove_prefix(8)) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data(), sizeof(word));
    hash = Mix(hash ^ word ^ seed, 0xD6E8FEB86659FD93);
  }
  return Hash(hash ^ ShortText(text), seed);
}

// Open addressing, at most half full. 8 bytes a slot, 16 to 32 an element.
class IndexTable {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  // The index under `hash` for which same(index) holds, kNone where there is none.
  template <class Same>
  std::uint32_t Find(std::uint32_t hash, const Same& same) const {
    return slots_[SlotOf(hash, same)].index;
  }

  // The first index under `hash`, kNone where there is none: what Find looks at first.
  std::uint32_t FindFirst(std::uint32_t hash) const {
    return Find(hash, [](std::uint32_t) { return true; });
  }
  // Asks for the memory that Find reads.
  void Prefetch(std::uint32_t hash) const { __builtin_prefetch(&slots_[hash & mask_]); }

  // Puts indices, a range of numbers less than kNone, under hash_of(index), in this order. Stops at the first one for
  // which same(other, index) holds with another that is there, and returns it; kNone where there is none.
  template <class Indices, class HashOf, class Same>
  std::uint32_t Insert(const Indices& indices, const HashOf& hash_of, const Same& same) {
    Reserve(size_ + indices.size());
    std::array<std::uint32_t, kAhead> hashes;  // of the next indices
    const auto prepare = [&](std::size_t i) {
      if (i >= indices.size()) return;
      hashes[i % kAhead] = hash_of(indices[i]);
      Prefetch(hashes[i % kAhead]);
    };
    for (std::size_t i = 0; i < kAhead; ++i) prepare(i);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::uint32_t hash = hashes[i % kAhead], index = indices[i];
      prepare(i + kAhead);
      Slot& slot = slots_[SlotOf(hash, [&](std::uint32_t other) { return same(other, index); })];
      if (slot.index != kNone) return index;
      slot = {hash, index};
      ++size_;
    }
    return kNone;
  }

 private:
  // Indices whose slots are asked for before they are needed: a table of a million slots does not fit the cache.
  static constexpr std::size_t kAhead = 32;

  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t index = kNone;
  };

  // The slot of an index under `hash` for which same(index) holds, or the empty one where it would stand.
  template <class Same>
  std::size_t SlotOf(std::uint32_t hash, const Same& same) const {
    for (std::size_t at = hash & mask_;; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.index == kNone || (slot.hash == hash && same(slot.index))) return at;
    }
  }

  void Reserve(std::size_t count) {
    if (count * 2 <= slots_.size()) return;
    std::vector<Slot> old(std::bit_ceil(count * 2));
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    for (const Slot& slot : old) {
      if (slot.index != kNone) slots_[SlotOf(slot.hash, [](std::uint32_t) { return false; })] = slot;
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(16);
  std::size_t mask_ = 15;
  std::size_t size_ = 0;
};

}  // namespace gemmule
