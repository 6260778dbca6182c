"""Scales by squared error: against the derivative's root, and against all scales there are."""
# ruff: noqa: N806  (dimensions have capital letters)

import numpy as np
import pytest
from encoders import KINDS, weights
from kernel_checks import LENGTHS, U, assert_same_bits_on_all_targets, testing, unaligned
from scale_rules import BITS, ends, slope_of_expected_error, squared_error

CODES = ["c2", "c4", "c8"]


@pytest.mark.parametrize("codes", CODES)
def test_expected_error_has_no_slope(target, codes):
    """The slope changes its sign there, but for rounding and for what some weights make that pass an end: there it
    jumps, which Newton's method does not see."""
    for kind in KINDS:
        for K in (32, 256, 1536):
            for row in weights(kind, 3, K):
                scale = testing.error_scale(row, "expected", codes)
                rounding = 16 * K * U
                assert slope_of_expected_error(row, scale * (1 - 10 / K - rounding), codes) < 0, (kind, K)
                assert slope_of_expected_error(row, scale * (1 + 0.1 / K + rounding), codes) > 0, (kind, K)


@pytest.mark.parametrize("codes", CODES)
def test_least_squared_error(target, codes):
    """Against 3000 scales: on average within 1 % of the least RMS error (8 bits: 5 %), never above that of absmax."""
    for kind in KINDS:
        for K in (32, 256):
            ratios = []
            for row in weights(kind, 12, K):
                absmax = np.abs(row).max() / ends(codes)[1]
                scales = absmax * np.geomspace(0.03, 1.02, 3000)
                error = squared_error(row, np.array([testing.error_scale(row, "least", codes)]), codes)[0]
                assert error <= squared_error(row, np.array([absmax]), codes)[0] * (1 + 1e-5)
                ratios.append(np.sqrt(error / squared_error(row, scales, codes).min()))
            assert np.mean(ratios) < (1.05 if codes == "c8" else 1.01), (kind, K, np.mean(ratios))


def test_all_lengths(target):
    """The tail counts, and nothing after it."""
    for n in LENGTHS:
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        for rule in ("expected", "least"):
            scale = testing.error_scale(unaligned(x, n % 4), rule, "c4")
            assert scale == testing.error_scale(x, rule, "c4")
            doubled = testing.error_scale(np.concatenate([x, x]), rule, "c4")
            assert doubled == pytest.approx(scale, rel=1e-4), (rule, n)


@pytest.mark.parametrize("codes", BITS)
def test_few_different_weights(target, codes):
    for rule in ("expected", "least"):
        assert testing.error_scale(np.zeros(40, np.float32), rule, codes) == 0
        negative = testing.error_scale(np.full(40, -0.5, np.float32), rule, codes)
        assert negative == pytest.approx(0.5 / -ends(codes)[0], rel=1e-6) if rule == "expected" else negative > 0
        assert testing.error_scale(np.float32([0.25]), rule, codes) > 0


def test_same_bits():
    for kind in KINDS:
        row = weights(kind, 1, 1536)[0]
        for codes in CODES:
            for rule in ("expected", "least"):
                assert_same_bits_on_all_targets(lambda row=row, c=codes, r=rule: testing.error_scale(row, r, c))
