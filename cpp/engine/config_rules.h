// What holds for the config of every checkpoint, whatever file it comes from.
#pragma once

#include <cstdint>

#include "base/checked.h"
#include "base/error.h"
#include "model/config.h"

namespace gemmule {

// Far above every Gemma 4 model, and small enough that no product of sizes overflows.
constexpr std::int64_t kMaxLayers = 1000;
constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 24;
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
constexpr std::int64_t kMaxExperts = std::int64_t{1} << 12;
constexpr std::int64_t kMaxHeads = std::int64_t{1} << 12;
constexpr std::int64_t kMaxHeadDim = std::int64_t{1} << 14;
constexpr std::int64_t kMaxPositions = std::int64_t{1} << 24;  // float32 holds every position up to here

// In bytes, float32 the widest: the per-layer table, all experts of a layer, and keys and values of a whole context.
static_assert(CheckedMul(kMaxVocabulary, kMaxLayers, kMaxWidth, sizeof(float)));
static_assert(CheckedMul(kMaxExperts, 2 * kMaxWidth, kMaxWidth, sizeof(float)));
static_assert(CheckedMul(kMaxPositions, 2 * kMaxHeads, kMaxHeadDim, kMaxLayers, sizeof(float)));

// Both throw FormatError; `at` names the config in it.

// Every layer's heads pair up for rotary positions, divide among the query heads, and are those of its type.
void CheckHeads(const Config& config, const Where& at);

// Sets every layer's kv_owner: itself, and for the last num_kv_shared_layers the last layer of their type before them.
void ShareKeysAndValues(Config& config, const Where& at);

}  // namespace gemmule
