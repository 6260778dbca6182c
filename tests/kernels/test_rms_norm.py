"""rms_norm: a sum of squares in 16 virtual lanes, then one scaling pass."""

import numpy as np
import pytest
from kernel_checks import LENGTHS, U, assert_same_bits_on_all_targets, assert_within, testing, unaligned

from gemmule.reference import operations

EPS = 1e-6


def row(n: int, size: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n)
    return (size * random.standard_normal(n)).astype(np.float32), random.standard_normal(n).astype(np.float32)


def bound(want: np.ndarray) -> np.ndarray:
    # Squares are positive: n/16 + 5 roundings of the sum, halved by the root, and five more operations.
    return (len(want) / 32 + 9) * U * np.abs(want)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_error(target, size):
    for n in LENGTHS:
        x, weight = row(n, size)
        want = operations.rms_norm(x.astype(np.float64), weight, np.float32(EPS))
        assert_within(testing.rms_norm(unaligned(x, n % 4), unaligned(weight, n % 3), EPS), want, bound(want))


def test_without_weight(target):
    for n in LENGTHS:
        x, _ = row(n)
        want = operations.rms_norm(x.astype(np.float64), None, np.float32(EPS))
        assert_within(testing.rms_norm(x, None, EPS), want, bound(want))


def test_zeros_stay_zero(target):
    assert np.array_equal(testing.rms_norm(np.zeros(37, np.float32), None, EPS), np.zeros(37))


def test_same_bits():
    for n in LENGTHS:
        x, weight = row(n)
        assert_same_bits_on_all_targets(lambda x=x, weight=weight: testing.rms_norm(x, weight, EPS))
