// What failed downloads leave in a file's place.
#pragma once

#include "formats/mapped_file.h"

namespace gemmule {

// Throws FormatError where `file` holds a Git LFS pointer or an HTML page. No safetensors or JSON file starts like one.
void RefuseStandIn(const MappedFile& file);

}  // namespace gemmule
