"""exp: one polynomial on every target."""

import numpy as np
from kernel_checks import LENGTHS, assert_same_bits_on_all_targets, assert_within, testing, unaligned

X = np.concatenate([np.linspace(-87.3, 88.3, 20001), np.linspace(-1, 1, 20001)]).astype(np.float32)


def test_error(target):
    want = np.exp(X.astype(np.float64))
    assert_within(testing.exp(X), want, 2.0**-22 * want)


def test_lengths(target):
    whole = testing.exp(X)
    for n in LENGTHS:
        assert np.array_equal(testing.exp(unaligned(X[:n], n % 4)), whole[:n]), n


def test_ends(target):
    x = np.array([0, -0.0, -np.inf, -1e30, -88, np.nan], np.float32)
    assert np.array_equal(testing.exp(x), np.array([1, 1, 0, 0, 0, np.nan], np.float32), equal_nan=True)
    # Above the range: a large finite number rather than infinity.
    assert np.isfinite(testing.exp(np.array([88.3, 1e30, np.inf], np.float32))).all()


def test_same_bits():
    assert_same_bits_on_all_targets(lambda: testing.exp(X))
