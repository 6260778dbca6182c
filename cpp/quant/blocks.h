// All encodings in blocks.
#pragma once

#include "quant/g4.h"    // IWYU pragma: export
#include "quant/q4_0.h"  // IWYU pragma: export
#include "quant/q4_1.h"  // IWYU pragma: export
#include "quant/q4_k.h"  // IWYU pragma: export
#include "quant/q5_0.h"  // IWYU pragma: export
#include "quant/q5_1.h"  // IWYU pragma: export
#include "quant/q5_k.h"  // IWYU pragma: export
#include "quant/q6_k.h"  // IWYU pragma: export
#include "quant/q8_0.h"  // IWYU pragma: export
