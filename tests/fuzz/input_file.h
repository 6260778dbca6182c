// A fuzzer's bytes as a file: readers open files by their paths, and map them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace gemmule::fuzz {

// In memory, without a folder; one for the whole process. A byte read behind its end, in the map's last page too, ends
// the process: see guarded_map.cc.
class InputFile {
 public:
  // The file holds these bytes from now on.
  static const std::string& Write(const std::uint8_t* data, std::size_t size);
};

}  // namespace gemmule::fuzz
