"""Random weights in a checkpoint's own encodings, drawn fast: a gigabyte of codes takes a few seconds.

A `Fill` makes the next `count` elements of a tensor as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fill = Callable[[np.random.Generator, int], NDArray[Any]]

# Values of a code and their probabilities. Each mean is zero: with a mean of its own, every row of a matrix would add
# the same multiple of sum(x) to its output, and after some layers nothing but that constant would be left.
CODE_VALUES = {
    2: ([-2, -1, 0, 1], [0.1, 0.2, 0.3, 0.4]),
    4: (list(range(-7, 8)), [1 / 15] * 15),
    8: (list(range(-127, 128)), [1 / 255] * 255),
}


def code_rms(bits: int) -> float:
    """Root mean square of the codes that `codes` draws."""
    values, probabilities = CODE_VALUES[bits]
    return float(np.sqrt(np.dot(np.square(values, dtype=np.float64), probabilities)))


@cache
def _pairs_of_bytes(bits: int) -> NDArray[np.uint16]:
    """(65536,) pairs of packed bytes with random codes: one look-up of 16 random bits gives 16 / bits codes."""
    values, probabilities = CODE_VALUES[bits]
    per_pair = 16 // bits
    drawn = np.random.default_rng(bits).choice(values, p=probabilities, size=(65536, per_pair))
    offset = 0 if bits == 8 else 1 << (bits - 1)  # 8-bit codes are plain signed bytes
    stored = (drawn + offset) & ((1 << bits) - 1)
    shifts = bits * np.arange(per_pair)  # low bits first
    pairs: NDArray[np.uint16] = (stored << shifts).sum(axis=1).astype("<u2")
    return pairs


def codes(bits: int) -> Fill:
    """Packed bytes of random 2-, 4- or 8-bit codes."""
    table = _pairs_of_bytes(bits)

    def fill(generator: np.random.Generator, count: int) -> NDArray[Any]:
        picks = generator.integers(0, 65536, size=(count + 1) // 2, dtype=np.uint16)
        return table[picks].view(np.uint8)[:count]

    return fill


def scales(middle: float) -> Fill:
    """F32 numbers within 20 % of `middle`."""

    def fill(generator: np.random.Generator, count: int) -> NDArray[Any]:
        return (middle * generator.uniform(0.8, 1.2, count)).astype("<f4")

    return fill


def constant(value: float) -> Fill:
    """F32 numbers that are all `value`."""

    def fill(generator: np.random.Generator, count: int) -> NDArray[Any]:
        return np.full(count, value, "<f4")

    return fill


def bf16(low: float, high: float) -> Fill:
    """BF16 numbers between `low` and `high`, cut off (not rounded) behind the 16th bit."""

    def fill(generator: np.random.Generator, count: int) -> NDArray[Any]:
        bits = generator.uniform(low, high, count).astype(np.float32).view(np.uint32)
        return (bits >> np.uint32(16)).astype("<u2")

    return fill
