#include "kernels/encode.h"

#include "kernels/encode_floats.h"
#include "kernels/encode_q6_k.h"
#include "kernels/encode_q8_0.h"

namespace gemmule {

void EncodeWeights(const EncodeOptions& options, std::span<const float> x, std::byte* out,
                   EncodeCounts& counts) noexcept {
  switch (options.target) {
    case Encoding::kQ4_0: return EncodeQ4_0(options.grid, options.source, x, out, counts);
    case Encoding::kQ8_0: return EncodeQ8_0(options.source, x, out, counts);
    case Encoding::kQ6_K: return EncodeQ6_K(options.source, x, out, counts);
    default: return EncodeFloats(options.target, x, out, counts);
  }
}

}  // namespace gemmule
