"""largest: of a row, exactly."""

import numpy as np
from kernel_checks import LENGTHS, testing, unaligned


def test_every_place(target):
    """Wherever the largest stands, and of numbers of any sign."""
    for n in LENGTHS:
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32) - np.float32(n % 3)
        assert testing.largest(unaligned(x, n % 4)) == x.max()
        for place in range(max(0, n - 40), n):
            higher = x.copy()
            higher[place] = x.max() + 1
            assert testing.largest(unaligned(higher, n % 4)) == higher[place], (n, place)


def test_a_nan_is_not_looked_at(target):
    for n in (1, 5, 16, 40):
        x = np.full(n, np.nan, np.float32)
        assert testing.largest(x) == -np.inf
        for place in range(n):
            known = x.copy()
            known[place] = -2.5
            assert testing.largest(known) == -2.5


def test_infinity(target):
    x = np.full(21, -np.inf, np.float32)
    assert testing.largest(x) == -np.inf
    x[3] = np.inf
    assert testing.largest(x) == np.inf


def test_of_blocks(target):
    for n in (1, 5, 64, 65, 200, 640):
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        x[n // 2] = np.nan
        for block in (1, 3, 16, 64, 1000):
            got = testing.largest_of_blocks(unaligned(x, n % 4), block)
            assert np.array_equal(got, [testing.largest(x[at : at + block]) for at in range(0, n, block)])
