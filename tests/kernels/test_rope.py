"""rope: pairs (j, j + d/2) turned by an angle."""

import numpy as np
from kernel_checks import LENGTHS, U, assert_same_bits_on_all_targets, assert_within, testing, unaligned

from gemmule.reference import operations


def head(half: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(half)
    angle = random.uniform(-4, 4, half)
    x = random.standard_normal(2 * half)
    return x.astype(np.float32), np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def test_error(target):
    for half in LENGTHS:
        x, cos, sin = head(half)
        want = operations.rope(x.astype(np.float64), cos.astype(np.float64), sin.astype(np.float64))
        terms = operations.rope(np.abs(x).astype(np.float64), np.abs(cos), -np.abs(sin))
        terms[half:] = np.abs(x[half:] * cos) + np.abs(x[:half] * sin)
        # Two products and a sum.
        assert_within(testing.rope(unaligned(x, half % 4), cos, unaligned(sin, half % 3)), want, 2 * U * terms)


def test_angle_zero_changes_nothing(target):
    x, cos, sin = head(33)
    assert np.array_equal(testing.rope(x, np.ones_like(cos), np.zeros_like(sin)), x)


def test_same_bits():
    for half in LENGTHS:
        arguments = head(half)
        assert_same_bits_on_all_targets(lambda arguments=arguments: testing.rope(*arguments))
