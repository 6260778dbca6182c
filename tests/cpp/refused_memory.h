// Replaces the program's operator new, its mmap and its pthread_create by such that refuse what they are asked for when
// a test wants them to, and count what is alive. For one file of a program.
#pragma once

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace gemmule {

// Requests of one kind, counted, of which some are refused.
class Requests {
 public:
  // From now on number `first` is refused, where 0 is the next one, and with `all_behind` every later one too.
  void Refuse(std::uint64_t first, bool all_behind) {
    count_ = 0;
    refused_ = 0;
    all_behind_ = all_behind;
    first_ = first;
  }
  // Refuses nothing from now on; how many were.
  std::uint64_t Grant() {
    first_ = kNone;
    return refused_;
  }
  std::uint64_t count() const { return count_; }

  bool IsRefused() {
    const std::uint64_t number = count_++;
    if (number < first_ || (number > first_ && !all_behind_)) return false;
    ++refused_;
    return true;
  }

 private:
  static constexpr auto kNone = static_cast<std::uint64_t>(-1);

  std::atomic<std::uint64_t> first_{kNone};
  std::atomic<std::uint64_t> count_{0};
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<bool> all_behind_{false};
};

inline constinit Requests memory_requests;
inline constinit Requests thread_requests;
inline constinit std::atomic<std::int64_t> live_allocations{0};  // of operator new, and maps

inline void* Allocated(std::size_t size, std::size_t alignment) noexcept {
  if (memory_requests.IsRefused()) return nullptr;
  void* const memory = alignment <= alignof(std::max_align_t)
                           ? std::malloc(size == 0 ? 1 : size)
                           : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory != nullptr) ++live_allocations;
  return memory;
}

inline void* AllocatedOrThrow(std::size_t size, std::size_t alignment) {
  void* const memory = Allocated(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

inline void Freed(void* memory) noexcept {
  if (memory != nullptr) --live_allocations;
  std::free(memory);
}

}  // namespace gemmule

// All forms, because sanitizers have one of their own for each.
void* operator new(std::size_t size) { return gemmule::AllocatedOrThrow(size, 1); }
void* operator new[](std::size_t size) { return gemmule::AllocatedOrThrow(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return gemmule::AllocatedOrThrow(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return gemmule::AllocatedOrThrow(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return gemmule::Allocated(size, 1); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return gemmule::Allocated(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return gemmule::Allocated(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return gemmule::Allocated(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { gemmule::Freed(memory); }
void operator delete[](void* memory) noexcept { gemmule::Freed(memory); }
void operator delete(void* memory, std::size_t) noexcept { gemmule::Freed(memory); }
void operator delete[](void* memory, std::size_t) noexcept { gemmule::Freed(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { gemmule::Freed(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { gemmule::Freed(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { gemmule::Freed(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { gemmule::Freed(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { gemmule::Freed(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { gemmule::Freed(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept { gemmule::Freed(memory); }
void operator delete[](void* memory, std::align_val_t, const std::nothrow_t&) noexcept { gemmule::Freed(memory); }

extern "C" {

void* mmap(void* address, std::size_t size, int protection, int flags, int descriptor, off_t offset) noexcept {
  if (gemmule::memory_requests.IsRefused()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  const long map = syscall(SYS_mmap, address, size, protection, flags, descriptor, offset);
  if (map == -1) return MAP_FAILED;
  ++gemmule::live_allocations;
  return reinterpret_cast<void*>(map);
}

int munmap(void* address, std::size_t size) noexcept {
  --gemmule::live_allocations;
  return static_cast<int>(syscall(SYS_munmap, address, size));
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) noexcept {
  using Create = int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static Create* const create = reinterpret_cast<Create*>(dlsym(RTLD_NEXT, "pthread_create"));
  return gemmule::thread_requests.IsRefused() ? EAGAIN : create(thread, attributes, start, argument);
}
}
