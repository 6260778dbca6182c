"""softcap: cap * tanh(x / cap)."""

import numpy as np
import pytest
from kernel_checks import LENGTHS, assert_same_bits_on_all_targets, assert_within, testing, unaligned

X = np.concatenate([np.linspace(-400, 400, 20001), np.linspace(-1, 1, 2001), [1e9, -1e9]]).astype(np.float32)


@pytest.mark.parametrize("cap", [30.0, 50.0, 1.0])
def test_error(target, cap):
    got = testing.softcap(X, cap)
    assert_within(got, cap * np.tanh(X / np.float64(cap)), 2.0**-21 * cap)
    assert np.abs(got).max() <= cap


def test_keeps_order(target):
    """Neighbours may become equal, but change places by no more than the error."""
    got = testing.softcap(np.linspace(-60, 60, 4001, dtype=np.float32), 30.0)
    assert (np.diff(got) >= -(2.0**-20) * 30).all()


def test_lengths(target):
    whole = testing.softcap(X, 30.0)
    for n in LENGTHS:
        assert np.array_equal(testing.softcap(unaligned(X[:n], n % 4), 30.0), whole[:n]), n


def test_same_bits():
    assert_same_bits_on_all_targets(lambda: testing.softcap(X, 30.0))
