"""log_sum_exp: ln of a sum of exponentials, nats."""

import numpy as np
import pytest
from kernel_checks import LENGTHS, assert_same_bits_on_all_targets, testing, unaligned

from gemmule.reference import operations

BOUND_NATS = 2e-6  # stated in the kernel's header


@pytest.mark.parametrize("size", [0.1, 5.0, 40.0])
def test_error(target, size):
    for n in [*LENGTHS, 4096, 4097, 262144]:
        x = (size * np.random.default_rng(n).standard_normal(n)).astype(np.float32)
        assert (
            abs(testing.log_sum_exp(unaligned(x, n % 4)) - operations.log_sum_exp(x.astype(np.float64))) <= BOUND_NATS
        ), n


def test_no_overflow(target):
    assert testing.log_sum_exp(np.full(64, 3e4, np.float32)) == pytest.approx(3e4 + np.log(64), abs=BOUND_NATS)
    assert testing.log_sum_exp(np.full(64, -3e4, np.float32)) == pytest.approx(-3e4 + np.log(64), abs=BOUND_NATS)


def test_masked(target):
    x = np.full(21, -np.inf, np.float32)
    assert testing.log_sum_exp(x) == -np.inf
    x[20] = 1.5
    assert testing.log_sum_exp(x) == 1.5


def test_same_bits():
    for n in [*LENGTHS, 5000]:
        x = (5 * np.random.default_rng(n).standard_normal(n)).astype(np.float32)
        assert_same_bits_on_all_targets(lambda x=x: testing.log_sum_exp(x))
