#include "base/forks.h"

#include <pthread.h>

#include <atomic>

namespace gemmule {
namespace {

std::atomic<std::uint32_t> forks{0};

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { ++forks; });

}  // namespace

std::uint32_t Forks() noexcept { return forks.load(std::memory_order_relaxed); }

}  // namespace gemmule
