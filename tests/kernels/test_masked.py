"""masked: logits of allowed tokens, -infinity for the others; exactly."""

import numpy as np
import pytest
from kernel_checks import LENGTHS, unaligned

import gemmule


def packed(kept: np.ndarray) -> np.ndarray:
    return np.packbits(kept, bitorder="little")


def test_every_length(target):
    for n in [*LENGTHS, 4096, 4097]:
        random = np.random.default_rng(n)
        x = random.standard_normal(n).astype(np.float32)
        kept = random.random(n) < 0.5
        got = gemmule._core.masked(unaligned(x, n % 4), unaligned(packed(kept), n % 3))
        assert np.array_equal(got, np.where(kept, x, np.float32(-np.inf))), n


def test_what_is_kept_is_not_changed(target):
    x = np.array([np.nan, -np.inf, np.inf, -0.0] * 10, np.float32)
    kept = np.arange(40) % 3 != 0
    got = gemmule._core.masked(x, packed(kept))
    assert got[kept].tobytes() == x[kept].tobytes()
    assert (got[~kept] == -np.inf).all()


def test_bits_behind_the_last_do_not_count(target):
    assert gemmule._core.masked(np.ones(3, np.float32), np.array([0xF8], np.uint8)).tolist() == [-np.inf] * 3


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_bits_as_logits(count):
    with pytest.raises(gemmule.ArgumentError, match="bits"):
        gemmule._core.masked(np.zeros(9, np.float32), np.zeros(count, np.uint8))
