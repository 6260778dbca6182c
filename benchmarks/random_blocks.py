"""Random weights in blocks, as GGUF files store them. A `Fill` here makes whole blocks; see random_values.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

import random_values
from random_values import Fill

# Elements and bytes of a block. Source: ggml-org/llama.cpp, ggml/src/ggml-common.h.
BLOCKS = {"Q4_0": (32, 18), "Q8_0": (32, 34), "Q6_K": (256, 210)}


def blocks(type: str, middle: float) -> Fill:
    """Blocks of weights whose root mean square is about `middle` and whose mean is zero."""
    return {"Q4_0": q4_0, "Q8_0": q8_0, "Q6_K": q6_k}[type](middle)


def q4_0(middle: float) -> Fill:
    """A half-precision scale, then 4-bit codes stored with an offset of 8."""
    return _scaled_codes("Q4_0", middle, bits=4)


def q8_0(middle: float) -> Fill:
    """A half-precision scale, then signed bytes."""
    return _scaled_codes("Q8_0", middle, bits=8)


def _scaled_codes(type: str, middle: float, bits: int) -> Fill:
    elements, size = BLOCKS[type]
    codes, scale = random_values.codes(bits), middle / random_values.code_rms(bits)

    def fill(generator: np.random.Generator, count: int) -> NDArray[Any]:
        made = np.empty((count // elements, size), np.uint8)
        made[:, :2] = _halves(generator, len(made), scale)
        made[:, 2:] = codes(generator, len(made) * (size - 2)).reshape(-1, size - 2)
        return made

    return fill


def q6_k(middle: float) -> Fill:
    """Codes of 6 bits, low and high parts apart, a signed scale for each 16, a half-precision scale for all."""
    elements, size = BLOCKS["Q6_K"]
    code_rms = math.sqrt((64**2 + 2) / 12)  # -32 to 31, all equally likely
    group_scales = random_values.codes(8)  # of either sign: the codes' mean of -0.5 then comes to nothing
    scale = middle / (code_rms * random_values.code_rms(8))

    def fill(generator: np.random.Generator, count: int) -> NDArray[Any]:
        made = np.empty((count // elements, size), np.uint8)
        made[:, :192] = np.frombuffer(generator.bytes(192 * len(made)), np.uint8).reshape(-1, 192)
        made[:, 192:208] = group_scales(generator, 16 * len(made)).reshape(-1, 16)
        made[:, 208:] = _halves(generator, len(made), scale)
        return made

    return fill


def _halves(generator: np.random.Generator, count: int, middle: float) -> NDArray[np.uint8]:
    """(count, 2) bytes of half-precision numbers within 20 % of `middle`."""
    return (middle * generator.uniform(0.8, 1.2, count)).astype("<f2").view(np.uint8).reshape(-1, 2)
