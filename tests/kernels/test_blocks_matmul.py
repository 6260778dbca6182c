"""Products with rows in blocks: float32 activations on the exact elements, and int8 activations in groups of 32."""
# ruff: noqa: N803, N806  (dimensions have capital letters)

from dataclasses import dataclass

import numpy as np
import pytest
from block_formats import LAYOUTS, Rows, decode, random_rows, with_halves
from kernel_checks import CODES, U, assert_same_bits_on_all_targets, assert_within, stored_codes, testing, unaligned

from gemmule.reference.operations import pack_codes
from gemmule.reference.safetensors import bf16_to_f32, f32_to_bf16

ROWS, TOKENS = 33, 17
SOME_ROWS = [1, 2, 3, 16, 17, 33]
SOME_TOKENS = [1, 2, 3, 8, 17]
ENCODINGS = [*LAYOUTS, "g4"]


@dataclass(frozen=True)
class Case:
    encoding: str
    stored: np.ndarray  # (rows, bytes)
    scales: np.ndarray | None  # (rows, K / 32), for g4
    rows: Rows

    def part(self, rows: int) -> tuple[np.ndarray, str, np.ndarray | None]:
        """What both products take, of the first rows."""
        scales = None if self.scales is None else unaligned(self.scales[:rows], 1)
        return unaligned(self.stored[:rows], rows % 4), self.encoding, scales


def widths(encoding: str) -> list[int]:
    elements = LAYOUTS[encoding].elements if encoding in LAYOUTS else 32
    return [K for K in (32, 64, 96, 256, 704, 1536) if K % elements == 0]


def g4_case(codes: np.ndarray, scales: np.ndarray) -> Case:
    """scales (rows, K / 32) float32, float16, or uint16 for bfloat16."""
    as_floats = bf16_to_f32(scales) if scales.dtype == np.uint16 else scales.astype(np.float32)
    rows = Rows(codes.astype(np.float32), np.repeat(as_floats, 32, axis=1), np.zeros(codes.shape, np.float32))
    return Case("g4", pack_codes(codes, 4).view(np.uint8), scales, rows)


def case(encoding: str, K: int) -> Case:
    if encoding != "g4":
        stored = random_rows(encoding, ROWS, K)
        return Case(encoding, stored, None, decode(encoding, stored))
    random = np.random.default_rng(K)
    codes = random.integers(-8, 8, (ROWS, K)).astype(np.int8)
    scales = (random.standard_normal((ROWS, K // 32)) * 0.02).astype(np.float32)
    return g4_case(codes, f32_to_bf16(scales) if K % 64 == 0 else scales)


def activations(K: int) -> np.ndarray:
    """(17, K): groups of very different size, one of zeros."""
    random = np.random.default_rng([K, 1])
    x = random.standard_normal((TOKENS, K)) * 2.0 ** np.repeat(random.integers(-8, 8, (TOKENS, K // 32)), 32, axis=1)
    x[3, :32] = 0
    return x.astype(np.float32)


def quantized(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """codes (T, K), scales (T, K / 32): float32 divisions, ties to even."""
    groups = x.reshape(len(x), -1, 32)
    scales = np.abs(groups).max(axis=2) / np.float32(127)
    divisor = np.where(scales > 0, scales, np.float32(1))[:, :, None]
    return np.clip(np.rint(groups / divisor), -127, 127).reshape(x.shape), scales


def grouped_product(c: Case, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, rows) float64 of the quantized activations, and a bound for the kernel's error."""
    codes, scales = quantized(x)
    held = codes.astype(np.float64) * np.repeat(scales, 32, axis=1)
    products = np.abs(held) @ np.abs(c.rows.codes.astype(np.float64) * c.rows.scales).T
    minima = np.abs(held.reshape(len(x), -1, 32).sum(axis=2)) @ np.abs(c.rows.minima[:, ::32].astype(np.float64)).T
    # A lane takes every second group, with a minimum in two steps, each of at most two roundings; the product of the
    # scales, the sum's eighth and the tree of lanes have a few more.
    steps = -(-x.shape[1] // 64) * (2 if c.rows.minima.any() else 1)
    return held @ c.rows.exact.T, (2 * steps + 8) * U * (products + minima)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_float32_activations(target, encoding):
    for K in widths(encoding):
        c, x = case(encoding, K), activations(K)
        values = c.rows.values.astype(np.float64)
        whole = testing.matmul_f32(*c.part(ROWS), x)
        terms = np.abs(x).astype(np.float64) @ np.abs(values).T
        # Sixteen lanes: K/16 fused steps (two roundings each where they are not fused), and the tree.
        assert_within(whole, x.astype(np.float64) @ values.T, (2 * K / 16 + 8) * U * terms)
        for rows in SOME_ROWS:
            for tokens in SOME_TOKENS:
                part = testing.matmul_f32(*c.part(rows), unaligned(x[:tokens], 1))
                assert np.array_equal(part, whole[:tokens, :rows]), (K, rows, tokens)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_int8_activations(target, encoding):
    for K in widths(encoding):
        c, x = case(encoding, K), activations(K)
        whole = testing.matmul_blocks_i8(*c.part(ROWS), x)
        assert_within(whole, *grouped_product(c, x))
        for rows in SOME_ROWS:
            for tokens in SOME_TOKENS:
                part = testing.matmul_blocks_i8(*c.part(rows), unaligned(x[:tokens], 1))
                assert np.array_equal(part, whole[:tokens, :rows]), (K, rows, tokens)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_some_rows(target, encoding):
    """Whatever rows a thread takes, it writes these and no others."""
    K = widths(encoding)[-1]
    c, x = case(encoding, K), activations(K)
    whole = testing.matmul_blocks_i8(*c.part(ROWS), x)
    for rows, begin, end in ((33, 0, 16), (33, 5, 33), (33, 16, 33), (33, 31, 32), (33, 7, 7), (5, 2, 4), (16, 3, 15)):
        for tokens in (1, 2, 17):
            part = testing.matmul_block_rows(*c.part(rows), x[:tokens], begin, end)
            assert np.array_equal(part[:, begin:end], whole[:tokens, begin:end]), (rows, begin, end, tokens)
            part[:, begin:end] = np.nan
            assert np.isnan(part).all(), (rows, begin, end, tokens)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_element_meets_its_own_weight(target, encoding):
    """One token per column, each a unit vector: the matrix comes back."""
    K = 256
    c = case(encoding, K)
    unit = np.eye(K, dtype=np.float32)
    assert np.array_equal(testing.matmul_f32(*c.part(ROWS), unit), c.rows.values.T)
    assert_within(testing.matmul_blocks_i8(*c.part(ROWS), unit), *grouped_product(c, unit))


def extreme_rows(encoding: str, ones: bool, K: int) -> Case:
    """All bits of all codes and group scales set, or none. float16 scales: 1 and, for minima, -0.5."""
    if encoding == "g4":
        codes = np.full((2, K), 7 if ones else -8, np.int8)
        return g4_case(codes, np.ones((2, K // 32), np.float32))
    layout = LAYOUTS[encoding]
    blocks = np.full((2 * K // layout.elements, layout.size), 255 if ones else 0, np.uint8)
    if encoding == "q8_0":
        blocks[:] = 127 if ones else 128
    if encoding == "q6_k" and not ones:
        blocks[:, 192:208] = 127
    halves = np.tile(np.array([1, -0.5], np.float16), (len(blocks), 1))
    stored = with_halves(encoding, blocks, halves).reshape(2, -1)
    return Case(encoding, stored, None, decode(encoding, stored))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ones", [False, True])
def test_largest_codes(target, encoding, ones):
    """Products that would overflow 16 bits first, of one sign and of alternating signs."""
    K = 512
    c = extreme_rows(encoding, ones, K)
    for sign in (np.ones(K), -np.ones(K), np.where(np.arange(K) % 2, -1, 1), np.where(np.arange(K) % 3, -1, 1)):
        x = np.tile((127 * sign).astype(np.float32), (5, 1))
        assert_within(testing.matmul_blocks_i8(*c.part(2), x), *grouped_product(c, x))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tiny_activations(target, encoding):
    """A scale that is subnormal has few bits: 190 / 127 of the smallest number becomes 1, and codes must end at 127."""
    K = 256
    c = case(encoding, K)
    if encoding == "g4":
        c = g4_case(c.rows.codes.astype(np.int8), np.full((ROWS, K // 32), 2.0**14, np.float32))
    else:
        halves = np.full((c.stored.size // LAYOUTS[encoding].size, 2), 2.0**14, np.float16)
        stored = with_halves(encoding, c.stored.reshape(len(halves), -1), halves).reshape(ROWS, -1)
        c = Case(encoding, stored, None, decode(encoding, stored))
    x = np.random.default_rng(0).integers(-190, 191, (4, K))
    x[:, ::32] = 190
    x = (x * 2.0**-149).astype(np.float32)
    want, bound = grouped_product(c, x)
    # Each group's sum is rounded to eighths that are multiples of the smallest number.
    smallest = K / 32 * 8 * 2.0**-149 * np.abs(c.rows.minima).max()
    assert_within(testing.matmul_blocks_i8(*c.part(ROWS), x), want, bound + smallest)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_not_a_number_is_not_hidden(target, encoding, bad):
    c = case(encoding, 256)
    for place in (0, 21, 31, 32, 255):
        x = activations(256)[:5]
        clean = testing.matmul_blocks_i8(*c.part(ROWS), x)
        x[2, place] = bad
        got = testing.matmul_blocks_i8(*c.part(ROWS), x)
        assert np.isnan(got[2]).all()
        others = [0, 1, 3, 4]
        assert np.array_equal(got[others], clean[others])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_same_bits(encoding):
    for K in widths(encoding):
        c, x = case(encoding, K), activations(K)
        for tokens in (1, 5, 17):
            arguments = (*c.part(ROWS), x[:tokens])
            assert_same_bits_on_all_targets(lambda args=arguments: testing.matmul_blocks_i8(*args))
            assert_same_bits_on_all_targets(lambda args=arguments: testing.matmul_f32(*args))


@pytest.mark.parametrize("matmul", [testing.matmul_f32, testing.matmul_blocks_i8])
def test_types_of_scales(target, matmul):
    """Scales of 16 bits give what the same numbers give in 32."""
    K = 96
    random = np.random.default_rng(2)
    codes, x = random.integers(-8, 8, (ROWS, K)).astype(np.int8), activations(K)
    scales = random.standard_normal((ROWS, K // 32)).astype(np.float32)
    for stored, same in ((f32_to_bf16(scales), bf16_to_f32(f32_to_bf16(scales))), (scales.astype(np.float16),) * 2):
        got = matmul(*g4_case(codes, stored).part(ROWS), x)
        assert np.array_equal(got, matmul(*g4_case(codes, same.astype(np.float32)).part(ROWS), x))


@pytest.mark.parametrize("encoding", CODES)
def test_row_scales_of_16_bits(target, encoding):
    bits = CODES[encoding]
    random = np.random.default_rng(bits)
    codes = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (ROWS, 64)).astype(np.int8)
    packed, x = stored_codes(codes, encoding), activations(64)
    scale = f32_to_bf16(random.uniform(0.01, 0.1, ROWS).astype(np.float32))
    same = bf16_to_f32(scale)
    assert np.array_equal(
        testing.matmul_i8(packed, encoding, scale, x, 0.03), testing.matmul_i8(packed, encoding, same, x, 0.03)
    )
    assert np.array_equal(testing.matmul_f32(packed, encoding, scale, x), testing.matmul_f32(packed, encoding, same, x))
