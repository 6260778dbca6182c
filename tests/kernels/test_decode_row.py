"""decode_row: one stored row as float32, exactly."""

import numpy as np
import pytest
from kernel_checks import CODES, LENGTHS, stored_codes, testing, unaligned

from gemmule.reference.operations import decode
from gemmule.reference.safetensors import bf16_to_f32, f32_to_bf16


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_codes(target, encoding, blocks):
    bits = CODES[encoding]
    for width in (4, 8, 12, 32, 36, 256):  # of a block
        random = np.random.default_rng([bits, blocks, width])
        n = blocks * width
        codes = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (1, n)).astype(np.int8)
        scales = random.uniform(0.01, 0.1, (1, blocks)).astype(np.float32)
        row = unaligned(stored_codes(codes, encoding)[0], n % 3)
        got = testing.decode_row(row, encoding, scales[0], n)
        assert np.array_equal(got, decode(codes, scales, np.float32)[0]), width


def test_every_byte_of_each_width(target):
    every = np.arange(256, dtype=np.uint8)
    one = np.ones(1, np.float32)
    assert np.array_equal(testing.decode_row(every, "c8", one, 256), every.view(np.int8))
    assert np.array_equal(testing.decode_row(every, "u8", one, 256), every.astype(np.float32) - 128)
    nibbles = np.stack([every & 15, every >> 4], axis=1).reshape(-1)
    assert np.array_equal(testing.decode_row(every, "c4", one, 512), nibbles.astype(np.float32) - 8)
    pairs = np.stack([every >> shift & 3 for shift in (0, 2, 4, 6)], axis=1).reshape(-1)
    assert np.array_equal(testing.decode_row(every, "c2", one, 1024), pairs.astype(np.float32) - 2)


def test_floats(target):
    for n in LENGTHS:
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        half, brain = x.astype(np.float16), f32_to_bf16(x)
        assert np.array_equal(testing.decode_row(unaligned(x.view(np.uint8), n % 4), "f32", None, n), x)
        assert np.array_equal(testing.decode_row(unaligned(half.view(np.uint8), n % 3), "f16", None, n), half)
        assert np.array_equal(
            testing.decode_row(unaligned(brain.view(np.uint8), 1), "bf16", None, n), bf16_to_f32(brain)
        )


def test_every_half(target):
    """All 65536 values of 16 bits, subnormal numbers, infinities and NaN among them."""
    bits = np.arange(65536, dtype=np.uint16)
    got = testing.decode_row(bits.view(np.uint8), "f16", None, len(bits))
    assert np.array_equal(got, bits.view(np.float16).astype(np.float32), equal_nan=True)
    got = testing.decode_row(bits.view(np.uint8), "bf16", None, len(bits))
    assert np.array_equal(got, bf16_to_f32(bits), equal_nan=True)
