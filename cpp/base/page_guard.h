// Pages of mapped files that are gone when they are read: another program has shortened the file, or the disk failed.
#pragma once

#include <cstddef>
#include <span>

namespace gemmule {

// While it lives, reading a page of `map` that is gone does not end the process (SIGBUS): from that page to the map's
// end there are zeros then, and lost() says so. Faults elsewhere go to whoever handled them before.
//
// Making one waits for nobody, and allocates no memory once there were as many at a time (docs/decisions/0032).
class PageGuard {
 public:
  PageGuard() = default;  // of nothing
  // `map` begins at a page.
  explicit PageGuard(std::span<const std::byte> map);
  PageGuard(PageGuard&& other) noexcept;
  PageGuard& operator=(PageGuard&& other) noexcept;
  PageGuard(const PageGuard&) = delete;
  PageGuard& operator=(const PageGuard&) = delete;
  ~PageGuard();

  bool lost() const noexcept;

  // Sees to it that faults come here first, where somebody else has asked for them since: a debugging aid of Python's,
  // faulthandler, prints and ends the process.
  static void ComeFirst() noexcept;

  struct Map;  // what the handler knows of one

 private:
  Map* map_ = nullptr;
};

}  // namespace gemmule
