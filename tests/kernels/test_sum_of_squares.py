"""sum_of_squares: against numpy in float64, and finite only of finite numbers."""

import numpy as np
import pytest
from kernel_checks import LENGTHS, testing, unaligned


def test_against_numpy(target):
    for n in LENGTHS:
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        assert testing.sum_of_squares(unaligned(x, n % 4)) == pytest.approx(
            float(np.square(x, dtype=np.float64).sum()), rel=1e-14 * max(n, 1)
        )


def test_the_largest_numbers_are_finite(target):
    x = np.full(3000, np.finfo(np.float32).max)
    assert testing.sum_of_squares(x) == pytest.approx(3000 * float(x[0]) ** 2, rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows(target, value):
    for n in (1, 7, 16, 40):
        for place in range(n):
            x = np.ones(n, np.float32)
            x[place] = value
            assert not np.isfinite(testing.sum_of_squares(x)), (n, place)
