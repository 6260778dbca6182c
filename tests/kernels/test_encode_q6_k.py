"""Q6_K: no bits to agree on, but an error to be compared with llama.cpp's."""

import numpy as np
import pytest
from block_formats import decode
from encoders import HALVES, KINDS, llama_q6_k_error, weights
from kernel_checks import assert_same_bits_on_all_targets, testing, unaligned


def errors(x: np.ndarray) -> np.ndarray:
    """(blocks,): squared, of x (rows, K)."""
    stored, _ = testing.encode(x, "bf16", "q6_k", "recover")
    return ((x.astype(np.float64) - decode("q6_k", stored).values) ** 2).reshape(-1, 256).sum(axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_better_than_llama(target, kind):
    x = weights(kind, 40, 1536)
    llama = llama_q6_k_error(x.reshape(-1, 256))
    got = errors(x)
    assert got.sum() <= 0.97 * llama.sum()
    assert (got <= 1.05 * llama).all()


def best_of_all_scales(block: np.ndarray, block_scale: float) -> float:
    """The least squared error of a block (256,) with all 255 scales of its 16 parts."""
    steps = np.arange(1, 128) * float(block_scale)
    steps = np.concatenate([steps, -steps])[:, None]
    parts = block.reshape(16, 1, 16).astype(np.float64)
    error = (parts - np.clip(np.rint(parts / steps), -32, 31) * steps) ** 2
    return error.sum(axis=2).min(axis=1).sum()


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "near a grid", "outliers", "tiny"])
def test_no_scale_of_a_part_is_much_better(target, kind):
    """All scales of all parts are tried, with four scales of the block, as the kernel has them."""
    x = weights(kind, 2, 1024, seed=3).reshape(-1, 256)
    for block, error in zip(x, errors(x), strict=True):
        wanted = np.abs(block).max() / (32 * np.array([124, 116, 108, 100]))
        scales = HALVES[np.searchsorted(HALVES, wanted.astype(np.float32))]
        assert error <= 1.02 * min(best_of_all_scales(block, scale) for scale in scales)


def test_zeros(target):
    x = np.zeros((2, 512), np.float32)
    x[1, 300] = 1.0
    stored, counts = testing.encode(x, "bf16", "q6_k", "recover")
    assert np.array_equal(decode("q6_k", stored).values[0], x[0])
    assert np.array_equal(decode("q6_k", stored).values[1, :256], x[1, :256])
    assert counts["on_grid"] >= 768


def test_blocks_that_come_back(target):
    """Whole numbers, of which each part has its -32."""
    x = np.random.default_rng(0).integers(-32, 32, (3, 512)).astype(np.float32)
    x[:, ::16] = -32
    x *= np.float32(100 * 2.0**-14)  # a block's scale times 100 for all parts
    stored, counts = testing.encode(x, "f32", "q6_k", "recover")
    assert np.array_equal(decode("q6_k", stored).values, x)
    assert counts["on_grid"] == x.size
    assert counts["saturated"] == counts["error_squares"] == 0


def test_weights_beyond_its_scales_saturate(target):
    x = weights("normal", 1, 512)
    x[0, 7] = 1e10
    stored, counts = testing.encode(x, "bf16", "q6_k", "recover")
    assert decode("q6_k", stored).values.max() == 65504.0 * 127 * 32
    assert counts["saturated"] == 1


def test_same_bits_on_all_targets():
    for kind in KINDS:
        x = weights(kind, 8, 1536, seed=4)
        assert_same_bits_on_all_targets(lambda x=x: testing.encode(unaligned(x, 1), "bf16", "q6_k", "recover")[0])
        assert_same_bits_on_all_targets(lambda x=x: [*testing.encode(x, "bf16", "q6_k", "recover")[1].values()])


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 3e38, 1e-40])
def test_odd_weights_harm_nothing(target, odd):
    x = weights("normal", 1, 768)
    want, _ = testing.encode(x, "bf16", "q6_k", "recover")
    x[0, 300] = odd
    x[0, 400:420] = odd
    got, _ = testing.encode(x, "f32", "q6_k", "recover")
    assert np.array_equal(got[:, :210], want[:, :210])
    assert np.array_equal(got[:, 420:], want[:, 420:])
    if np.isfinite(odd):
        assert np.isfinite(decode("q6_k", got).values).all()
