"""kl_divergence: of two rows of logits, nats."""

import numpy as np
import pytest
from kernel_checks import LENGTHS, assert_same_bits_on_all_targets, testing, unaligned

from gemmule.reference import operations


def rows(n: int, size: float, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """A reference's logits, and others at a random distance from them, within the softcap."""
    random = np.random.default_rng(n)
    reference = np.clip(size * random.standard_normal(n), -30, 30)
    logits = np.clip(reference + distance * random.standard_normal(n), -30, 30)
    return reference.astype(np.float32), logits.astype(np.float32)


def assert_error(reference: np.ndarray, logits: np.ndarray) -> None:
    """As the kernel's header says. log_sum_exp may be wrong by 2e-6: that of the reference scales the result, and half
    of the square of both together is the absolute part. A block of 256 terms, none negative, takes 21 roundings.
    An exp is wrong by 2^-22, and by the rounding of its argument, which is small where the term is large. At d = 1,
    where the two formulas of a term meet, it counts seven times."""
    want = operations.kl_divergence(reference.astype(np.float64), logits.astype(np.float64))
    n = len(reference)
    got = testing.kl_divergence(unaligned(reference, n % 4), unaligned(logits, n % 3))
    assert abs(got - want) <= 2.0**-17 * want + 1e-11, (n, got, want)


@pytest.mark.parametrize("distance", [1e-6, 1e-4, 0.01, 0.3, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("size", [0.1, 3.0, 12.0])
def test_error(target, size, distance):
    for n in [*LENGTHS, 5000, 262144]:
        assert_error(*rows(n, size, distance))


@pytest.mark.parametrize("size", [0.1, 12.0])
def test_typical_error(target, size):
    """The bound is of the worst case; rounding errors of many rows, of any offset, cancel to a fraction of it."""
    errors = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        reference = (size * random.standard_normal(300) + random.uniform(-5, 5)).astype(np.float32)
        logits = (reference + 0.3 * random.standard_normal(300)).astype(np.float32)
        want = operations.kl_divergence(reference.astype(np.float64), logits.astype(np.float64))
        errors.append(testing.kl_divergence(reference, logits) / want - 1)
    assert np.sqrt(np.mean(np.square(errors))) <= 2.0**-22


@pytest.mark.parametrize("border", [1.0, -1.0])
def test_around_the_border_of_two_formulas(target, border):
    """ln q - ln p is d for a quarter of the tokens, and for the others what makes q sum up to 1. A series with too few
    terms would be wrong the same way at every d."""
    errors = []
    for d in np.linspace(0.9, 1.1, 41) * border:
        logits = np.full(300, np.log((1 - np.exp(d) / 4) / 0.75), np.float32)
        logits[::4] = d
        want = operations.kl_divergence(np.zeros(300), logits.astype(np.float64))
        errors.append(testing.kl_divergence(np.zeros(300, np.float32), logits) / want - 1)
    assert np.abs(errors).max() <= 2.0**-20
    assert abs(np.mean(errors[:20])) <= 2.0**-23
    assert abs(np.mean(errors[21:])) <= 2.0**-23


@pytest.mark.parametrize("n", [1, 15, 300, 262144])
def test_the_same_row(target, n):
    reference, _ = rows(n, 5.0, 0.0)
    assert testing.kl_divergence(reference, reference.copy()) == 0.0


def test_the_same_distribution(target):
    """Quarters, so that the offset is exact."""
    reference = np.round(4 * rows(1000, 5.0, 0.0)[0]) / 4
    assert 0 <= testing.kl_divergence(reference, reference - np.float32(2)) <= 1e-11


def test_never_negative(target):
    for seed in range(50):
        reference, _ = rows(100 + seed, 10.0, 0.0)
        logits = np.nextafter(reference, np.float32(np.inf) * (1 if seed % 2 else -1))
        assert testing.kl_divergence(reference, logits) >= 0


@pytest.mark.parametrize("gap", [80.0, 200.0, 3e4])
def test_sure_of_different_tokens(target, gap):
    """p and q underflow where the other one is 1."""
    reference, logits = np.zeros(20, np.float32), np.zeros(20, np.float32)
    reference[3] = logits[17] = gap
    assert testing.kl_divergence(reference, logits) == pytest.approx(gap, rel=1e-6)


def test_nan_stays_nan(target):
    reference, logits = rows(40, 1.0, 1.0)
    assert np.isnan(testing.kl_divergence(np.where(np.arange(40) == 39, np.nan, reference), logits))
    assert np.isnan(testing.kl_divergence(reference, np.where(np.arange(40) == 5, np.nan, logits)))


def test_same_bits():
    for n in [*LENGTHS, 5000]:
        for distance in (0.01, 3.0):
            reference, logits = rows(n, 5.0, distance)
            assert_same_bits_on_all_targets(lambda a=reference, b=logits: testing.kl_divergence(a, b))
