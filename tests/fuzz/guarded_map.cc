// mmap and munmap of the readers (the linker's --wrap): the rest of a mapped file's last page is forbidden. It would
// read as zeros, and AddressSanitizer does not know that it belongs to no file.
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

namespace {

// Bytes from the end of a map of `size` bytes to the end of its last page.
std::size_t Rest(std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (page - size % page) % page;
}

}  // namespace

extern "C" {

void* __real_mmap(void* address, std::size_t size, int protection, int flags, int descriptor, off_t offset);
int __real_munmap(void* address, std::size_t size);

void* __wrap_mmap(void* address, std::size_t size, int protection, int flags, int descriptor, off_t offset) {
  void* const map = __real_mmap(address, size, protection, flags, descriptor, offset);
  if (map != MAP_FAILED && descriptor >= 0) {
    ASAN_POISON_MEMORY_REGION(static_cast<std::byte*>(map) + size, Rest(size));
  }
  return map;
}

int __wrap_munmap(void* address, std::size_t size) {
  ASAN_UNPOISON_MEMORY_REGION(static_cast<std::byte*>(address) + size, Rest(size));
  return __real_munmap(address, size);
}
}
