// A fuzzer's bytes as a checkpoint's folder: config.json up to the first zero byte, model.safetensors behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace gemmule::fuzz {

// One for the whole process.
class InputFolder {
 public:
  // The folder holds these bytes from now on.
  static const std::string& Write(const std::uint8_t* data, std::size_t size);
};

}  // namespace gemmule::fuzz
