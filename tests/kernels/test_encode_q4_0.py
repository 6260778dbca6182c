"""Q4_0 by both rules: llama.cpp's bit for bit, and the one that recovers a grid against a search of all scales."""
# ruff: noqa: N803  (dimensions have capital letters)

from functools import cache

import numpy as np
import pytest
from block_formats import decode, random_rows, with_halves
from encoders import (
    KINDS,
    ROUND,
    bf16,
    fitting_scales,
    least_squared_error,
    llama_q4_0,
    pack_q4_0,
    squared_errors,
    weights,
)
from kernel_checks import assert_same_bits_on_all_targets, testing, unaligned

from gemmule.reference.operations import pack_codes


def recover(x: np.ndarray, source: str) -> tuple[np.ndarray, dict]:
    """Decoded (rows, K) and counts."""
    stored, counts = testing.encode(x, source, "q4_0", "recover")
    return decode("q4_0", stored).values, counts


def is_back(x: np.ndarray, decoded: np.ndarray, source: str) -> np.ndarray:
    """(blocks,): whether all bits of a block are."""
    return (ROUND[source](decoded).view(np.uint32) == x.view(np.uint32)).reshape(-1, 32).all(axis=1)


def on_random_grids(source: str, rows: int = 64, K: int = 1536, *, least: int = -8, most: int = 7, seed: int = 0):
    """(rows, K) as after decoding Q4_0: codes from `least` to `most`, scales of either sign, some zero or subnormal."""
    blocks = random_rows("q4_0", rows, K, seed).reshape(-1, 18)
    codes = np.random.default_rng(seed).integers(least, most + 1, (len(blocks), 32)) + 8
    codes[(blocks[:, :2] & [255, 127] == 0).all(axis=1)] = 8  # others would give zeros of both signs
    blocks[:, 2:] = pack_q4_0(np.zeros(len(blocks)), codes)[:, 2:]
    return ROUND[source](decode("q4_0", blocks.reshape(rows, -1)).values)


# llama.cpp's rule


@pytest.mark.parametrize("kind", KINDS)
def test_llama(target, kind):
    x = weights(kind, 40, 1536)
    assert np.array_equal(testing.encode(x, "bf16", "q4_0", "llama")[0], llama_q4_0(x))


def test_llama_at_the_edges(target):
    """Ties for the largest, zeros of both signs, halves between codes, scales that float16 rounds to 0 or infinity."""
    random = np.random.default_rng(0)
    x = np.zeros((9, 96), np.float32)
    x[1] = np.tile([1, -1, 0.5], 32)
    x[2] = np.tile([-1, 1, 0.5], 32)
    x[3] = -0.0
    x[4] = random.integers(-16, 17, 96) / 16
    x[5] = random.standard_normal(96) * 1e-7
    x[6] = random.standard_normal(96) * 1e6
    x[7] = np.arange(96) == 40
    x[8] = random.standard_normal(96) * 1e-38
    x[8, ::32] = 3e-38
    assert np.array_equal(testing.encode(x, "f32", "q4_0", "llama")[0], llama_q4_0(x))


def test_llama_equals_the_gguf_package():
    gguf = pytest.importorskip("gguf", reason="pip install gguf, to compare with the format's own package")
    x = weights("normal", 100, 1536, seed=1)
    want = gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q4_0)
    assert np.array_equal(testing.encode(x, "bf16", "q4_0", "llama")[0], want)


# Recovering a grid


@pytest.mark.parametrize("source", ROUND)
@pytest.mark.parametrize("codes", [(-8, 7), (-6, 6), (-2, 1), (0, 1)])
def test_decoded_blocks_come_back(target, source, codes):
    x = on_random_grids(source, least=codes[0], most=codes[1])
    decoded, counts = recover(x, source)
    assert is_back(x, decoded, source).all()
    assert counts["on_grid"] == counts["elements"] == x.size
    assert counts["saturated"] == 0


@pytest.mark.parametrize("source", ROUND)
def test_llama_does_not_find_codes_that_it_would_not_write(source):
    x = on_random_grids(source, least=-6, most=6)
    _, counts = testing.encode(x, source, "q4_0", "llama")
    zero_scales = (x.reshape(-1, 32) == 0).all(axis=1).sum() * 32
    assert counts["on_grid"] - zero_scales < 0.01 * x.size


@pytest.mark.parametrize("source", ROUND)
def test_every_scale_comes_back(target, source):
    """All float16: subnormal, of both signs, the largest."""
    bits = np.arange(65536, dtype=np.uint16)
    halves = bits[bits & 0x7C00 != 0x7C00].view(np.float16)
    if source == "f16":
        halves = halves[np.abs(halves.astype(np.float32)) < 65504 / 8]
    blocks = random_rows("q4_0", len(halves), 32).reshape(-1, 18)
    x = ROUND[source](decode("q4_0", with_halves("q4_0", blocks, halves[:, None])).values)
    decoded, counts = recover(x, source)
    assert counts["on_grid"] == x.size
    assert is_back(x, decoded, source)[halves != 0].all()


@pytest.mark.parametrize("source", ROUND)
def test_blocks_that_are_almost_on_a_grid(target, source):
    """One element is moved a little: whether some scale still fits is settled by trying all of them."""
    random = np.random.default_rng(5)
    x = on_random_grids(source, 1, 32 * 150, least=-5, most=5, seed=3).reshape(-1, 32)
    x = x[np.abs(x).max(axis=1) > 0]
    moved = x[np.arange(len(x)), random.integers(0, 32, len(x))]
    step = {"f32": 1, "f16": 1 << 13, "bf16": 1 << 16}[source]
    bits = moved.view(np.int32) + random.integers(-1, 2, len(x)).astype(np.int32) * step
    x = np.where(x == moved[:, None], bits.view(np.float32)[:, None], x)
    decoded, _ = recover(x, source)
    fits = [fitting_scales(source, block) for block in x]
    assert 0.1 < np.mean([len(scales) > 0 for scales in fits]) < 0.9
    for block, got, scales in zip(x, decoded, fits, strict=True):
        assert (ROUND[source](got) == block).all() == (len(scales) > 0)
        if len(scales):
            error = ((block.astype(np.float64) - got) ** 2).sum()
            assert error <= squared_errors(block, scales).min() * (1 + 1e-5)


@pytest.mark.parametrize(
    ("block", "sign_of_scale"),
    [
        ([0.0] * 32, 1),
        ([-0.0] * 32, -1),
        ([1.0] * 32, 1),
        ([-0.75] * 32, 1),
        ([0.0] * 31 + [3.0], 1),
        ([-0.0] * 31 + [3.0], -1),
        ([-8.0, 7.0] * 16, 1),
        ([8.0, -7.0] * 16, -1),
        ([8.0, -7.0] * 15 + [-0.0, 8.0], -1),
        ([4.0, -4.0, 0.0, 2.0] * 8, 1),
        ([4.0, -4.0, -0.0, 2.0] * 8, -1),
        ([2.0**-24, -(2.0**-24)] * 16, 1),
    ],
)
def test_small_cases(target, block, sign_of_scale):
    """Zeros keep their signs: they follow the scale's."""
    x = np.array([block], np.float32)
    stored, counts = testing.encode(x, "bf16", "q4_0", "recover")
    decoded = decode("q4_0", stored).values
    assert is_back(x, decoded, "bf16").all()
    assert counts["on_grid"] == 32
    assert np.signbit(stored[0, :2].view(np.float16)[0]) == (sign_of_scale < 0)


def test_zeros_of_both_signs_are_the_same_weight(target):
    """No scale gives both, and code -8 settles the scale's sign."""
    x = np.array([[0.25, -0.5, 0.0, -0.0] * 8, [-8.0, 7.0, -0.0, 3.0] * 8, [8.0, -7.0, 0.0, 3.0] * 8], np.float32)
    decoded, counts = recover(x, "bf16")
    assert np.array_equal(decoded, x)
    assert counts["on_grid"] == x.size


def test_both_ends_of_the_codes_at_once_fit_nothing(target):
    x = np.array([[8.0, -8.0, 1.0, 3.0] * 8], np.float32)
    decoded, counts = recover(x, "bf16")
    assert counts["on_grid"] == 0
    assert ((x.astype(np.float64) - decoded) ** 2).sum() <= 1.001 * least_squared_error(x[0])


def test_groups_of_w4a16_keep_every_block(target):
    """Four bits with a bfloat16 scale: exact products, and such scales are float16 too."""
    random = np.random.default_rng(2)
    codes = random.integers(-8, 8, (16, 1536)).astype(np.int8)
    scales = bf16(random.uniform(0.001, 0.05, (16, 48)).astype(np.float32) * random.choice([-1, 1], (16, 48)))
    rows = pack_codes(codes, 4).view(np.uint8)
    x = np.stack([testing.decode_row(row, "g4", s, 1536) for row, s in zip(rows, scales, strict=True)])
    decoded, counts = recover(x, "f32")
    assert np.array_equal(decoded, x)
    assert counts["on_grid"] == x.size


# Least squares


@cache
def blocks_and_least_errors(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(blocks, 32), none of them zero, and the least error of each, by trying every scale."""
    x = weights(kind, 8, 1024, seed=2).reshape(-1, 32)
    x = x[np.abs(x).max(axis=1) > 0]
    return x, np.array([least_squared_error(block) for block in x])


@pytest.mark.parametrize("kind", KINDS)
def test_least_squares(target, kind):
    """Where no scale fits, within 0.1 % of the least squared error, a single block within 2 %."""
    x, least = blocks_and_least_errors(kind)
    decoded, _ = recover(x, "bf16")
    free = ~is_back(x, decoded, "bf16")
    error = ((x.astype(np.float64) - decoded) ** 2).sum(axis=1)
    assert error[free].sum() <= 1.001 * least[free].sum()
    assert (error[free] <= 1.02 * least[free]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_never_worse_than_llama(target, kind):
    x = weights(kind, 200, 1536, seed=3).reshape(-1, 32)
    decoded, _ = recover(x, "bf16")
    free = ~is_back(x, decoded, "bf16")
    error = ((x.astype(np.float64) - decoded) ** 2).sum(axis=1)
    llama = ((x.astype(np.float64) - decode("q4_0", llama_q4_0(x)).values) ** 2).sum(axis=1)
    assert (error[free] <= llama[free] * (1 + 1e-6)).all()


def test_weights_of_the_least_scales(target):
    """Up to some times 2^-24, the smallest scale; half of that is nothing."""
    x = np.random.default_rng(0).uniform(-1, 1, (300, 32)) * np.logspace(-26, -21, 300, base=2)[:, None]
    x = x.astype(np.float32)
    decoded, _ = recover(x, "f32")
    error = ((x.astype(np.float64) - decoded) ** 2).sum(axis=1)
    assert (error <= 1.02 * np.array([least_squared_error(block) for block in x])).all()
    nothing = np.abs(x).max(axis=1) <= 2.0**-25
    assert 0 < nothing.sum() < 100
    assert not decoded[nothing].any()


# What holds for both


@pytest.mark.parametrize("grid", ["llama", "recover"])
def test_same_bits_on_all_targets(grid):
    for kind in KINDS:
        x = weights(kind, 20, 1536, seed=4)
        assert_same_bits_on_all_targets(lambda x=x: testing.encode(unaligned(x, 1), "bf16", "q4_0", grid)[0])
        assert_same_bits_on_all_targets(lambda x=x: [*testing.encode(x, "bf16", "q4_0", grid)[1].values()])


@pytest.mark.parametrize("grid", ["llama", "recover"])
def test_what_is_no_number_harms_nothing(target, grid):
    """The result of such a block means nothing; its neighbours' are as ever."""
    x = weights("normal", 1, 96)
    want, _ = testing.encode(x, "bf16", "q4_0", grid)
    for odd in (np.nan, -np.nan, np.inf, -np.inf):
        for places in ([40], [32, 63], range(32, 64)):
            bad = x.copy()
            bad[0, list(places)] = odd
            got, _ = testing.encode(bad, "f32", "q4_0", grid)
            assert np.array_equal(got[:, :18], want[:, :18])
            assert np.array_equal(got[:, 36:], want[:, 36:])


def test_weights_beyond_float16_saturate(target):
    x = np.array([np.linspace(-3e6, 2e6, 32), np.linspace(-1e30, 1e30, 32), [3e38] * 32], np.float32)
    decoded, _ = recover(x, "f32")
    assert np.array_equal(np.abs(decoded).max(axis=1), [8 * 65504] * 3)
    assert recover(x[2:], "f32")[1]["saturated"] == 32
