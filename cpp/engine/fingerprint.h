// What tells a checkpoint from others, read in milliseconds.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/load.h"

namespace gemmule {

// Of every tensor in the files, by name: name, type, shape, and 256 of its bytes, in four places from its first to its
// last; all of them where it has no more. To be hashed. Read from the files, not through their maps. Throws
// ResourceError where they cannot be read.
std::vector<std::byte> Fingerprint(const Checkpoint& checkpoint);

}  // namespace gemmule
