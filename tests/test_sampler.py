"""The sampler on many logits: which tokens it may draw, and how often, by plain numpy."""

import numpy as np
import pytest

import gemmule
from gemmule import _core

HISTORY = np.zeros(0, np.int32)


def sampler(**options) -> _core.Sampler:
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 5}
    return _core.Sampler(**plain | options)


def probabilities(x, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) -> np.ndarray:
    """(V,): of every token, NaN counted as none; of equals the lower id comes first."""
    order = np.lexsort((np.arange(len(x)), -x.astype(np.float64)))
    order = order[~np.isnan(x[order])][: top_k or None]
    weights = np.exp((x[order].astype(np.float64) - x[order[0]]) / temperature)
    sums = np.cumsum(weights)
    count = 1
    while count < len(order) and sums[count - 1] < top_p * sums[-1] and weights[count] >= min_p:
        count += 1
    result = np.zeros(len(x))
    result[order[:count]] = weights[:count] / sums[count - 1]
    return result


def logits(kind: str, n: int) -> np.ndarray:
    random = np.random.default_rng(n)
    x = (4 * random.standard_normal(n)).astype(np.float32)
    if kind == "ties":
        x = np.round(x)
    elif kind == "holes":
        x[random.permutation(n)[: n // 2]] = np.nan
        x[random.permutation(n)[: n // 4]] = -np.inf
    elif kind == "one block":
        x[n // 2 : n // 2 + 40] += 30
    elif kind == "all alike":
        x[:] = 1.5
    return x


OPTIONS = [
    {"top_k": 64, "top_p": 0.95},
    {"top_k": 1},
    {"top_k": 7, "temperature": 0.5},
    {"top_k": 5000, "top_p": 0.9},
    {"top_p": 0.3},
    {"top_p": 0.999, "temperature": 2.0},
    {"min_p": 0.05},
    {"top_k": 100, "min_p": 0.5, "top_p": 0.99},
    {},
]


@pytest.mark.parametrize("kind", ["normal", "ties", "holes", "one block", "all alike"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_how_often_a_token_is_drawn(kind, options):
    for n in (20, 700, 3000):
        x = logits(kind, n)
        expected = probabilities(x, **options)
        draws = 1000
        of = sampler(**options)
        counts = np.bincount([of.sample(x, HISTORY) for _ in range(draws)], minlength=n)
        assert not counts[expected == 0].any()
        # Sums over tokens in the order of their ids, as far from the expected ones as chance takes them.
        away = np.abs(np.cumsum(counts) - draws * np.cumsum(expected)).max()
        assert away < 2.5 * np.sqrt(draws)  # Kolmogorov: once in 100,000
        if (expected > 0).sum() < 30:
            likely = expected > 0.01
            assert counts[likely].all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_penalty_draws_as_from_the_penalized_logits(options):
    x = logits("normal", 700)
    history = np.argsort(-x)[:50].astype(np.int32)  # the largest one too
    penalized = x.copy()
    penalized[history] = np.where(x > 0, x / np.float32(2), x * np.float32(2))[history]
    penalizing, plain = sampler(repetition_penalty=2.0, **options), sampler(**options)
    assert all(penalizing.sample(x, history) == plain.sample(penalized, HISTORY) for _ in range(200))


def test_the_largest_logit_the_first_of_equals():
    x = logits("ties", 5000)
    assert sampler(temperature=0.0).sample(x, HISTORY) == np.argmax(x)
    x[0] = np.nan
    assert sampler(temperature=0.0).sample(x, HISTORY) == np.nanargmax(x)
    assert sampler(top_k=1).sample(x, HISTORY) == np.nanargmax(x)


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_logits_without_a_largest_finite_one(value):
    for temperature in (0.0, 1.0):
        with pytest.raises(gemmule.ArgumentError, match="finite"):
            sampler(temperature=temperature).sample(np.full(300, value, np.float32), HISTORY)
