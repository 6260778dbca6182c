#include "formats/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace gemmule {
namespace {

static_assert(sizeof(std::size_t) == 8 && sizeof(off_t) == 8, "files larger than 4 GB are mapped whole");

constexpr char kClosed[] = "the program has closed a file that gemmule holds open";
constexpr char kLoadAfter[] = "Load the checkpoint after descriptors are closed (os.closerange, a daemon's start).";
constexpr char kLoadAgain[] =
    "Load the checkpoint again; put another file in its place by renaming it, not by writing into it.";

const char* RemedyFor(int error) {
  switch (error) {
    case ENOMEM: return "End other programs, or raise the limit of address space (ulimit -v).";
    case EMFILE:
    case ENFILE: return "Close other files, or raise the limit of open files (ulimit -n).";
    case EBADF: return kLoadAfter;
    case EIO: return "The disk or the network behind the path fails: copy the file to another.";
    default: return "Check the path and its permissions.";
  }
}

ResourceError SystemError(const std::string& what, const std::string& path, int error) {
  return ResourceError(what + ": " + std::generic_category().message(error), RemedyFor(error), {.file = path});
}

}  // namespace

MappedFile MappedFile::Open(const std::string& path) {
  MappedFile file(path);  // closes and unmaps whatever happens from here on
  // O_NONBLOCK: opening a named pipe must not wait for a writer. Regular files do not care.
  file.descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.descriptor_ < 0) throw SystemError("the file cannot be opened", path, errno);

  struct stat status = {};
  if (fstat(file.descriptor_, &status) != 0) throw SystemError("the file cannot be examined", path, errno);
  if (!S_ISREG(status.st_mode)) {
    throw ResourceError("a file is needed", "Check the path.",
                        {.file = path,
                         .expected = "a regular file",
                         .found = S_ISDIR(status.st_mode) ? "a folder" : "a device, pipe or socket"});
  }
  if (status.st_size <= 0) {
    throw FormatError("the file is empty", {.file = path, .expected = "1 byte at least", .found = "0 bytes"});
  }

  // MAP_PRIVATE: pages are shared with the page cache and other processes as long as nobody writes, and nothing could
  // ever reach the file through this map.
  const std::size_t size = static_cast<std::size_t>(status.st_size);
  void* const start = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor_, 0);
  if (start == MAP_FAILED) throw SystemError("the file cannot be mapped", path, errno);
  file.inode_ = status.st_ino;
  file.bytes_ = {static_cast<const std::byte*>(start), size};
  file.guard_ = PageGuard(file.bytes_);
  return file;
}

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      inode_(other.inode_),
      bytes_(std::exchange(other.bytes_, {})),
      guard_(std::move(other.guard_)) {}

MappedFile::~MappedFile() {
  guard_ = PageGuard();  // before the map, whose place another one may take
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (descriptor_ >= 0) close(descriptor_);
}

void MappedFile::CheckWhole() const {
  struct stat status = {};
  if (fstat(descriptor_, &status) != 0 || status.st_ino != inode_) {
    throw ResourceError(kClosed, kLoadAfter, {.file = path_});
  }
  const auto now = static_cast<std::uint64_t>(status.st_size);
  if (now < size()) {
    throw ResourceError("the file became shorter while it was in use", kLoadAgain,
                        {.file = path_,
                         .expected = std::to_string(size()) + " bytes, as when it was loaded",
                         .found = std::to_string(now) + " bytes"});
  }
  if (guard_.lost()) {
    throw ResourceError("a part of the file could not be read: it was shorter for a time, or the disk failed",
                        kLoadAgain, {.file = path_});
  }
}

void MappedFile::ForgetPages(std::span<const std::byte> part) const noexcept {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const std::uintptr_t before = reinterpret_cast<std::uintptr_t>(part.data()) % page;
  madvise(const_cast<std::byte*>(part.data()) - before, part.size() + before, MADV_DONTNEED);
}

void MappedFile::Pread(std::span<const std::byte> part, std::byte* out) const {
  std::uint64_t offset = static_cast<std::uint64_t>(part.data() - bytes_.data());
  for (std::size_t left = part.size(); left != 0;) {
    const ssize_t got = pread(descriptor_, out, left, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw SystemError("the file cannot be read", path_, errno);
    if (got == 0) {
      throw ResourceError("the file became shorter while it was in use", kLoadAgain, {.file = path_, .offset = offset});
    }
    out += got;
    left -= static_cast<std::size_t>(got);
    offset += static_cast<std::uint64_t>(got);
  }
}

void FileRows::Read(std::size_t row, std::span<std::byte> out) const {
  file_->Pread(rows_.subspan(row * row_bytes_, out.size()), out.data());
}

}  // namespace gemmule
