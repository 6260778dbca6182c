// Whether this process is a fork of the one in which something was made.
#pragma once

#include <cstdint>

namespace gemmule {

// How often this process and those it comes from were forked since the library was loaded. A child of fork() has one
// more than its parent: it has the parent's memory, but of its threads only the one that forked.
std::uint32_t Forks() noexcept;

}  // namespace gemmule
