"""The scale that is found from a histogram, against that of the values themselves."""

import numpy as np
import pytest

import gemmule
from least_squares import least_squares_scale, squared_error

testing = gemmule._core.testing


def samples(n: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    gate = random.standard_normal(n)
    return {
        "normal": random.standard_normal(n),
        "laplace": random.laplace(size=n),
        "heavy tails": random.standard_t(3, n),
        "uniform": random.uniform(-1, 1, n),
        "positive": random.exponential(size=n),
        "negative": -random.exponential(size=n),
        "gated": gate * 0.5 * (1 + np.tanh(0.8 * gate)) * random.standard_normal(n),
        "a few outliers": np.concatenate([random.standard_normal(n), [1000.0, 990.0, -400.0]]),
        "one in a thousand": np.where(random.random(n) < 1e-3, 50, 1) * random.standard_normal(n),
        "half zeros": np.maximum(random.standard_normal(n), 0),
        "tiny": 1e-30 * random.standard_normal(n),
        "huge": 1e30 * random.standard_normal(n),
    }


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("n", [300, 30_000])
@pytest.mark.parametrize("kind", samples(1))
def test_against_the_values(kind, n, bits):
    x = samples(n)[kind].astype(np.float32)
    found = testing.least_squares_scale(x, bits)
    wanted = least_squares_scale(x, bits)
    assert found == pytest.approx(wanted, rel=5e-3)
    assert squared_error(x.astype(np.float64), found, bits) < 1.005 * squared_error(x.astype(np.float64), wanted, bits)


def test_codes_are_not_symmetric():
    """Positive codes end one before negative ones."""
    x = np.abs(samples(10_000)["uniform"]).astype(np.float32)
    assert testing.least_squares_scale(x, 4) > 1.1 * testing.least_squares_scale(-x, 4)


@pytest.mark.parametrize("bits", [8, 4])
def test_values_on_a_grid(bits):
    """They come back: single values that repeat lie where they lie, not somewhere in their bins."""
    codes = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 1000)
    scale = testing.least_squares_scale((0.037 * codes).astype(np.float32), bits)
    assert scale == pytest.approx(0.037, rel=1e-3)


@pytest.mark.parametrize("x", [[], [0.0, -0.0], [1e-40]])
def test_nothing_to_round(x):
    assert testing.least_squares_scale(np.array(x, np.float32), 8) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_single_value(sign):
    scale = testing.least_squares_scale(np.array([sign * 3.7], np.float32), 8)
    assert squared_error(np.array([sign * 3.7]), scale, 8) < 1e-6
    assert 0 < scale <= 3.7


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_noticed(value):
    with pytest.raises(gemmule.ArgumentError, match="finite"):
        testing.least_squares_scale(np.array([1, value, 2], np.float32), 8)


def test_order_does_not_matter():
    x = samples(20_000)["heavy tails"].astype(np.float32)
    assert testing.least_squares_scale(x, 8) == testing.least_squares_scale(np.sort(x), 8)
