"""attend: one head's softmax over n stored keys and the weighted sum of their values."""

import numpy as np
import pytest
from kernel_checks import U, assert_same_bits_on_all_targets, assert_within, testing

from gemmule.reference import operations
from gemmule.reference.operations import round_to_grid
from gemmule.reference.safetensors import bf16_to_f32, f32_to_bf16

KEYS = [1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 100, 255, 256, 257, 700]
WIDTHS = [2, 4, 12, 16, 20, 32, 64, 96, 256]
ELEMENTS = ["f32", "bf16", "i8", "i4"]


def case(n: int, d: int, spread: float = 2.0):
    """q, k, v whose scores have a standard deviation of `spread`."""
    random = np.random.default_rng([n, d])
    size = np.sqrt(spread / np.sqrt(d))
    q, k, v = random.standard_normal(d) * size, random.standard_normal((n, d)) * size, random.standard_normal((n, d))
    return tuple(x.astype(np.float32) for x in (q, k, v))


def scales(element: str, k: np.ndarray, v: np.ndarray) -> tuple[np.float32, np.float32]:
    """A little is cut off at the grid's ends."""
    last = {"i8": 127, "i4": 7}.get(element)
    return (
        (np.float32(1), np.float32(1))
        if last is None
        else tuple(np.float32(0.8 * np.abs(x).max() / last) for x in (k, v))
    )


def as_stored(x: np.ndarray, element: str, scale: np.float32) -> np.ndarray:
    """float64 of what the cache holds."""
    if element == "bf16":
        x = bf16_to_f32(f32_to_bf16(x))
    elif element != "f32":
        x = round_to_grid(x, scale, {"i8": 8, "i4": 4}[element])
    return x.astype(np.float64)


def check(q, k, v, element):
    n, d = k.shape
    k_scale, v_scale = scales(element, k, v)
    got = testing.attend(q, k, v, element, k_scale, v_scale)
    held_k, held_v = as_stored(k, element, k_scale), as_stored(v, element, v_scale)
    want = operations.attend(q.astype(np.float64), held_k, held_v)
    # A score errs by its sum's roundings, its weight by as much and the exponential's 2^-22; then n/16 steps of a sum.
    # Weights below e^-87.3 are 0.
    score_error = ((2 * d / 16 + 8) * U * (np.abs(held_k) @ np.abs(q).astype(np.float64))).max()
    weights = operations.softmax(held_k @ q.astype(np.float64))
    bound = (2 * score_error + (4 * n / 16 + 24) * U) * (weights @ np.abs(held_v))
    assert_within(got, want, bound + n * np.exp(-87.3) * np.abs(held_v).max())


@pytest.mark.parametrize("element", ELEMENTS)
def test_error(target, element):
    for n in KEYS:
        for d in WIDTHS:
            check(*case(n, d), element)


@pytest.mark.parametrize("element", ELEMENTS)
def test_sharp_scores(target, element):
    """Scores of hundreds: nothing overflows and the best key takes all."""
    for n in (1, 7, 300):
        q, k, v = case(n, 32, spread=200.0)
        check(q, k, v, element)


def test_equal_keys_give_the_mean(target):
    q, k, v = case(50, 16)
    k[:] = k[0]
    assert_within(testing.attend(q, k, v, "f32", 1, 1), v.astype(np.float64).mean(axis=0), 64 * U * np.abs(v).max())


@pytest.mark.parametrize("element", ELEMENTS)
def test_same_bits(element):
    for n in KEYS:
        q, k, v = case(n, 32)
        held = scales(element, k, v)
        assert_same_bits_on_all_targets(lambda args=(q, k, v, element, *held): testing.attend(*args))
