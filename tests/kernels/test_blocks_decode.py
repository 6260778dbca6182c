"""decode_row of rows in blocks: exact, operation by operation."""

import numpy as np
import pytest
from block_formats import LAYOUTS, decode, random_rows, with_halves
from kernel_checks import testing, unaligned

from gemmule.reference.operations import pack_codes
from gemmule.reference.safetensors import bf16_to_f32, f32_to_bf16


def decoded(encoding: str, stored: np.ndarray) -> np.ndarray:
    layout = LAYOUTS[encoding]
    n = stored.shape[1] // layout.size * layout.elements
    rows = [testing.decode_row(unaligned(row, i % 3), encoding, None, n) for i, row in enumerate(stored)]
    return np.stack(rows)


def every_half(encoding: str) -> np.ndarray:
    """One row of random codes whose blocks' scales go through all finite float16, their minima backwards."""
    bits = np.arange(65536, dtype=np.uint16)
    bits = bits[bits & 0x7C00 != 0x7C00]
    halves = np.stack([bits, bits[::-1]], axis=1).view(np.float16)
    layout = LAYOUTS[encoding]
    blocks = random_rows(encoding, len(bits), layout.elements)
    return with_halves(encoding, blocks, halves).reshape(1, -1)


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_blocks(encoding):
    stored = random_rows(encoding, 100, 1536)
    assert np.array_equal(decoded(encoding, stored).view(np.uint32), decode(encoding, stored).values.view(np.uint32))


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_every_scale(encoding):
    stored = every_half(encoding)
    assert np.array_equal(decoded(encoding, stored).view(np.uint32), decode(encoding, stored).values.view(np.uint32))


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_equals_the_gguf_package(encoding):
    gguf = pytest.importorskip("gguf", reason="pip install gguf, to compare with the format's own package")
    for stored in (random_rows(encoding, 100, 1536, seed=1), every_half(encoding)):
        want = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[encoding.upper()])
        assert np.array_equal(decoded(encoding, stored).view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("groups", [1, 3, 48])
def test_g4(groups):
    random = np.random.default_rng(groups)
    codes = random.integers(-8, 8, (1, 32 * groups)).astype(np.int8)
    scales = random.standard_normal(groups).astype(np.float32)
    row = unaligned(pack_codes(codes, 4).view(np.uint8)[0], groups % 3)
    brain, half = f32_to_bf16(scales), scales.astype(np.float16)
    for stored, same in ((scales, scales), (brain, bf16_to_f32(brain)), (half, half.astype(np.float32))):
        got = testing.decode_row(row, "g4", unaligned(stored, 1), codes.size)
        assert np.array_equal(got, codes[0] * np.repeat(same, 32))
