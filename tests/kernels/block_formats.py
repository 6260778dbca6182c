"""Rows in blocks for the tests: random ones, and their elements by plain numpy, one element index at a time.

A row's elements are `code * scale + minimum`; the three come apart, exactly, so that tests can bound each.
"""
# ruff: noqa: N803  (dimensions have capital letters)

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NO_MIN = np.float32(-0.0)  # x + -0.0 is x, of every x


@dataclass(frozen=True)
class Layout:
    elements: int  # of a block
    size: int  # bytes of a block
    halves: tuple[int, ...]  # where the block has float16 numbers
    has_min: bool
    elements_of: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Rows:
    """(rows, K) float32 each: value = code * scale + minimum, rounded to float32 once or, in `values`, as stored."""

    codes: np.ndarray
    scales: np.ndarray
    minima: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """Two float32 operations, the product first."""
        return self.codes * self.scales + self.minima

    @property
    def exact(self) -> np.ndarray:
        return self.codes.astype(np.float64) * self.scales + self.minima


def half_at(blocks: np.ndarray, at: int) -> np.ndarray:
    """(blocks, 1) float32."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def nibbles_of_halves(packed: np.ndarray) -> np.ndarray:
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.int32)


def bits_of(packed: np.ndarray) -> np.ndarray:
    """(blocks, 4) bytes -> (blocks, 32), lowest bit first."""
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.int32)


def q4_0(b):
    return nibbles_of_halves(b[:, 2:18]) - 8, half_at(b, 0), NO_MIN


def q4_1(b):
    return nibbles_of_halves(b[:, 4:20]), half_at(b, 0), half_at(b, 2)


def q5_0(b):
    return (nibbles_of_halves(b[:, 6:22]) | bits_of(b[:, 2:6]) << 4) - 16, half_at(b, 0), NO_MIN


def q5_1(b):
    return nibbles_of_halves(b[:, 8:24]) | bits_of(b[:, 4:8]) << 4, half_at(b, 0), half_at(b, 2)


def q8_0(b):
    return b[:, 2:34].view(np.int8), half_at(b, 0), NO_MIN


def k_scale_and_min(s: np.ndarray, g: int) -> tuple[np.ndarray, np.ndarray]:
    """Of group g from the (blocks, 12) packed bytes."""
    if g < 4:
        return s[:, g] & 63, s[:, g + 4] & 63
    return (s[:, g + 4] & 15) | (s[:, g - 4] >> 6) << 4, s[:, g + 4] >> 4 | (s[:, g] >> 6) << 4


def k_quant(b: np.ndarray, low_at: int, high_at: int | None):
    codes = np.empty((len(b), 256), np.int32)
    scales, minima = np.empty((len(b), 256), np.float32), np.empty((len(b), 256), np.float32)
    for i in range(256):
        g, j = i // 32, i % 32
        codes[:, i] = b[:, low_at + g // 2 * 32 + j] >> 4 * (g % 2) & 15
        if high_at is not None:
            codes[:, i] += (b[:, high_at + j] >> g & 1).astype(np.int32) << 4
        scale, minimum = k_scale_and_min(b[:, 4:16], g)
        scales[:, i] = half_at(b, 0)[:, 0] * scale
        minima[:, i] = -(half_at(b, 2)[:, 0] * minimum)
    return codes, scales, minima


def q4_k(b):
    return k_quant(b, low_at=16, high_at=None)


def q5_k(b):
    return k_quant(b, low_at=48, high_at=16)


def q6_k(b):
    codes, scales = np.empty((len(b), 256), np.int32), np.empty((len(b), 256), np.float32)
    for i in range(256):
        half, quarter, j = i // 128, i % 128 // 32, i % 32
        low = b[:, 64 * half + 32 * (quarter % 2) + j] >> 4 * (quarter // 2) & 15
        high = b[:, 128 + 32 * half + j] >> 2 * quarter & 3
        codes[:, i] = (low | high << 4).astype(np.int32) - 32
        scales[:, i] = half_at(b, 208)[:, 0] * b[:, 192 + i // 16].view(np.int8)
    return codes, scales, NO_MIN


LAYOUTS = {
    "q4_0": Layout(32, 18, (0,), False, q4_0),
    "q4_1": Layout(32, 20, (0, 2), True, q4_1),
    "q5_0": Layout(32, 22, (0,), False, q5_0),
    "q5_1": Layout(32, 24, (0, 2), True, q5_1),
    "q8_0": Layout(32, 34, (0,), False, q8_0),
    "q4_k": Layout(256, 144, (0, 2), True, q4_k),
    "q5_k": Layout(256, 176, (0, 2), True, q5_k),
    "q6_k": Layout(256, 210, (208,), False, q6_k),
}


def with_halves(encoding: str, blocks: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """`blocks` (blocks, size) with `halves` (blocks, 1 or 2) float16 in their places."""
    blocks = blocks.copy()
    for column, at in enumerate(LAYOUTS[encoding].halves):
        blocks[:, at : at + 2] = np.ascontiguousarray(halves[:, column]).view(np.uint8).reshape(-1, 2)
    return blocks


def decode(encoding: str, stored: np.ndarray) -> Rows:
    """stored (rows, bytes) of uint8."""
    layout = LAYOUTS[encoding]
    blocks = stored.reshape(-1, layout.size)
    parts = layout.elements_of(blocks)
    shape = (len(blocks), layout.elements)
    rows = (np.broadcast_to(part, shape).astype(np.float32).reshape(len(stored), -1) for part in parts)
    return Rows(*rows)


def random_rows(encoding: str, rows: int, K: int, seed: int = 0) -> np.ndarray:
    """(rows, bytes): every code equally often, scales and minima of either sign, some zero, some subnormal."""
    layout = LAYOUTS[encoding]
    random = np.random.default_rng([list(LAYOUTS).index(encoding), rows, K, seed])
    blocks = random.integers(0, 256, (rows * K // layout.elements, layout.size), np.uint8)
    halves = (random.standard_normal((len(blocks), 2)) * 0.02).astype(np.float16)
    halves[random.random(halves.shape) < 0.05] = 0
    halves[random.random(halves.shape) < 0.05] *= np.float16(2e-4)
    return with_halves(encoding, blocks, halves).reshape(rows, -1)
