"""round_to_grid: exact, so that the kernel and numpy's float32 agree bit for bit."""

import numpy as np
import pytest
from kernel_checks import LENGTHS, testing, unaligned

from gemmule.reference import operations


@pytest.mark.parametrize("scale", [0.0325755216, 1.0, 2.0**-7, 3e-5])
def test_equals_numpy(target, scale):
    scale = np.float32(scale)
    for n in LENGTHS:
        x = (np.random.default_rng(n).standard_normal(n) * 80 * scale).astype(np.float32)
        assert np.array_equal(testing.round_to_grid(unaligned(x, n % 4), scale), operations.round_to_grid(x, scale)), n


def test_ties_go_to_even(target):
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5], np.float32) * np.float32(0.25)
    want = np.array([0, 2, 2, 0, -2, -2, 126], np.float32) * np.float32(0.25)
    assert np.array_equal(testing.round_to_grid(x, 0.25), want)


def test_ends_of_the_grid(target):
    x = np.array([127, 127.4, 127.6, 1e9, -128, -128.4, -128.6, -1e9, 3e38, -3e38], np.float32)
    want = np.array([127, 127, 127, 127, -128, -128, -128, -128, 127, -128], np.float32)
    assert np.array_equal(testing.round_to_grid(x, 1.0), want)


def test_infinity_is_at_an_end_and_nan_stays(target):
    for n in LENGTHS:
        x = np.random.default_rng(n).choice(np.array([np.inf, -np.inf, np.nan, 3e38, 1.0], np.float32), n)
        with np.errstate(over="ignore"):
            want = operations.round_to_grid(x, np.float32(0.25))
        assert np.array_equal(testing.round_to_grid(x, 0.25), want, equal_nan=True), n


def test_scale_zero_changes_nothing(target):
    x = np.random.default_rng(0).standard_normal(37).astype(np.float32)
    assert np.array_equal(testing.round_to_grid(x, 0.0), x)
