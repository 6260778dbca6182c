#include "base/page_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace gemmule {

// Never freed, because a handler may be reading it; taken again once its guard is gone.
struct PageGuard::Map {
  std::atomic<const std::byte*> begin{nullptr};
  std::atomic<std::size_t> bytes{0};  // 0: none
  std::atomic<bool> lost{false};
  std::atomic<bool> taken{true};
  Map* next = nullptr;
};

namespace {

// Without locks: a handler may not wait for one, nor may a forked child for one that another thread held.
std::atomic<PageGuard::Map*> maps{nullptr};
const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));

// Who handled SIGBUS before: at first, and when it was last asked for.
struct sigaction at_first = {};
struct sigaction before = {};
std::atomic<bool> installed{false};
std::atomic<bool> installing{false};

// What was handed over last to who was there before: the address of a fault, or kSent.
std::atomic<std::uintptr_t> handed_over{0};
constexpr std::uintptr_t kSent = 1;  // by kill or raise

PageGuard::Map* Take() {
  for (PageGuard::Map* map = maps; map != nullptr; map = map->next) {
    if (!map->taken.exchange(true)) return map;
  }
  auto* const map = new PageGuard::Map;
  map->next = maps;
  while (!maps.compare_exchange_weak(map->next, map)) {
  }
  return map;
}

std::uintptr_t Address(const void* byte) { return reinterpret_cast<std::uintptr_t>(byte); }

PageGuard::Map* Find(const void* byte) {
  for (PageGuard::Map* map = maps; map != nullptr; map = map->next) {
    if (Address(byte) - Address(map->begin) < map->bytes) return map;
  }
  return nullptr;
}

// Puts zeros in place of the page and those behind it: what is gone is the end of a file.
bool Replace(PageGuard::Map& map, const void* byte) {
  const std::size_t offset = (Address(byte) - Address(map.begin)) / page_bytes * page_bytes;
  map.lost = true;
  std::byte* const page = const_cast<std::byte*>(map.begin.load()) + offset;
  return mmap(page, map.bytes - offset, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
         page;
}

// Whether this came back: who was there before returned without mending a fault, or raised the signal again. So do
// handlers that were disabled since, and those that came after ours and take ours for the one to end with.
bool CameBack(const siginfo_t& info) {
  if (info.si_code > 0) {
    return handed_over.exchange(Address(info.si_addr)) == Address(info.si_addr);
  }
  return handed_over.exchange(kSent) != 0 && info.si_code == SI_TKILL;
}

void HandOver(int signal, siginfo_t* info, void* context) {
  const bool is_fault = info->si_code > 0;
  const struct sigaction& to = CameBack(*info) ? at_first : before;
  if ((to.sa_flags & SA_SIGINFO) != 0) return to.sa_sigaction(signal, info, context);
  if (to.sa_handler == SIG_IGN && !is_fault) return;
  if (to.sa_handler != SIG_IGN && to.sa_handler != SIG_DFL) return to.sa_handler(signal);
  struct sigaction end = {};
  end.sa_handler = SIG_DFL;
  sigaction(signal, &end, nullptr);
  if (!is_fault) raise(signal);  // ends the process when this returns; a fault comes again by itself
}

// Only what is safe in a signal handler.
void OnBusError(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  PageGuard::Map* const map = info->si_code > 0 ? Find(info->si_addr) : nullptr;  // a fault, not kill or raise
  if (map == nullptr || !Replace(*map, info->si_addr)) HandOver(signal, info, context);
  errno = error;
}

bool IsOurs(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &OnBusError;
}

}  // namespace

PageGuard::PageGuard(std::span<const std::byte> map) : map_(Take()) {
  map_->lost = false;
  map_->begin = map.data();
  map_->bytes = (map.size() + page_bytes - 1) / page_bytes * page_bytes;
  ComeFirst();
}

PageGuard::PageGuard(PageGuard&& other) noexcept : map_(std::exchange(other.map_, nullptr)) {}

PageGuard& PageGuard::operator=(PageGuard&& other) noexcept {
  std::swap(map_, other.map_);
  return *this;
}

PageGuard::~PageGuard() {
  if (map_ == nullptr) return;
  map_->bytes = 0;
  map_->taken = false;
}

bool PageGuard::lost() const noexcept { return map_ != nullptr && map_->lost; }

void PageGuard::ComeFirst() noexcept {
  struct sigaction now = {};
  if (sigaction(SIGBUS, nullptr, &now) != 0 || IsOurs(now)) return;
  if (installing.exchange(true)) return;  // another thread is at it
  if (!installed.exchange(true)) at_first = now;
  before = now;
  struct sigaction ours = {};
  ours.sa_sigaction = &OnBusError;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGBUS, &ours, nullptr);
  installing = false;
}

}  // namespace gemmule
