#include "input_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

namespace gemmule::fuzz {

const std::string& InputFile::Write(const std::uint8_t* data, std::size_t size) {
  static const int descriptor = memfd_create("input", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  const bool written = ftruncate(descriptor, static_cast<off_t>(size)) == 0 &&
                       pwrite(descriptor, data, size, 0) == static_cast<ssize_t>(size);
  if (!written) std::abort();
  return path;
}

}  // namespace gemmule::fuzz
