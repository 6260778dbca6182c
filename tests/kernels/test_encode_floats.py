"""Floats to narrower floats: to the nearest, ties to even."""

import numpy as np
import pytest
from kernel_checks import LENGTHS, testing, unaligned

from gemmule.reference.safetensors import f32_to_bf16


def encode(x: np.ndarray, target: str) -> tuple[np.ndarray, dict]:
    stored, counts = testing.encode(x.reshape(1, -1), "f32", target, "recover")
    return stored[0].view(np.uint32 if target == "f32" else np.uint16), counts


def want(x: np.ndarray, target: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = {"f32": lambda: x.view(np.uint32), "f16": lambda: x.astype(np.float16).view(np.uint16)}
        return narrow.get(target, lambda: f32_to_bf16(x))()


@pytest.mark.parametrize("name", ["f32", "f16", "bf16"])
def test_lengths(target, name):
    for n in LENGTHS:
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        stored, counts = encode(unaligned(x, n % 4), name)
        assert np.array_equal(stored, want(x, name)), n
        assert counts["elements"] == n


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_every_float_of_the_type_and_what_lies_between(target, name):
    """All 65536, the numbers half way to the next, and those beside them: ties, subnormals, overflow."""
    bits = np.arange(65536, dtype=np.uint32)
    if name == "bf16":
        floats = (bits << 16).view(np.float32)
    else:
        floats = bits.astype(np.uint16).view(np.float16).astype(np.float32)
    floats = floats[np.isfinite(floats)]
    next_one = np.append(floats[1:], np.float32(0))
    with np.errstate(over="ignore"):
        halves = ((floats.astype(np.float64) + next_one) / 2).astype(np.float32)
        beside = [np.nextafter(halves, np.float32(side)) for side in (-np.inf, np.inf)]
    x = np.concatenate([floats, halves, *beside, [3.4e38, -3.4e38, 65519.99, 65520]]).astype(np.float32)
    x = x[np.isfinite(x)]
    assert np.array_equal(encode(x, name)[0], want(x, name))


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_random_bits(target, name):
    x = np.random.default_rng(0).integers(0, 2**32, 200_000, np.uint32).view(np.float32)
    x = x[~np.isnan(x)]
    assert np.array_equal(encode(x, name)[0], want(x, name))


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_infinities_and_nan_stay(target, name):
    bits = np.array([0x7F800000, 0xFF800000, 0x7F800001, 0x7FFFFFFF, 0xFFC00000, 0xFFFFFFFF], np.uint32)
    stored, counts = encode(bits.view(np.float32), name)
    exponent = 0x7F80 if name == "bf16" else 0x7C00
    assert list(stored[:2]) == [exponent, 0x8000 | exponent]
    assert ((stored[2:] & 0x7FFF) > exponent).all()
    assert counts["saturated"] == 0
