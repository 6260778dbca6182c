"""What the encoders say they did, against what the decoded rows show, in float64."""

import numpy as np
import pytest
from block_formats import LAYOUTS, decode
from encoders import ROUND, weights
from kernel_checks import testing

from gemmule.reference.safetensors import bf16_to_f32

# Largest code on either side, and elements of a block.
CODES = {"q4_0": (-8, 7), "q8_0": (-127, 127), "q6_k": (-32, 31)}


def random_weights(source: str) -> np.ndarray:
    """(30, 1024), some rows on a grid, rounded to the source's type."""
    on_grid = decode("q4_0", testing.encode(weights("normal", 10, 1024), "bf16", "q4_0", "llama")[0]).values
    return ROUND[source](np.concatenate([weights("normal", 10, 1024), on_grid, weights("heavy tails", 10, 1024)]))


@pytest.mark.parametrize("source", ROUND)
@pytest.mark.parametrize(
    ("name", "grid"), [("q4_0", "llama"), ("q4_0", "recover"), ("q8_0", "recover"), ("q6_k", "recover")]
)
def test_blocks(target, source, name, grid):
    x = random_weights(source)
    stored, counts = testing.encode(x, source, name, grid)
    rows = decode(name, stored)
    exact, error = x.astype(np.float64), x.astype(np.float64) - rows.values
    assert counts["elements"] == x.size
    assert counts["squares"] == pytest.approx((exact**2).sum(), rel=1e-12)
    assert counts["error_squares"] == pytest.approx((error**2).sum(), rel=1e-6)  # x - decoded is rounded to float32
    back = (ROUND[source](rows.values) == x).reshape(-1, LAYOUTS[name].elements).all(axis=1)
    assert counts["on_grid"] == back.sum() * LAYOUTS[name].elements
    least, most = CODES[name]
    last = (rows.codes == least) | (rows.codes == most)
    beyond = np.abs(exact) > np.abs(rows.values) + np.abs(rows.scales) / 2 * (1 + 1e-3)
    assert counts["saturated"] == (last & beyond).sum()
    if name == "q4_0":
        assert 0 < counts["saturated"] < 0.1 * x.size
        assert counts["on_grid"] >= (x.size // 3 if grid == "recover" else 0)


def test_floats(target):
    x = np.array([[1.0, 1.0 + 2.0**-9, 70000.0, -70000.0, 65519.0, -0.0, np.inf, 3.4e38]], np.float32)
    stored, counts = testing.encode(x, "f32", "f16", "recover")
    assert [counts[key] for key in ("elements", "on_grid", "saturated")] == [8, 4, 3]
    x = np.random.default_rng(0).standard_normal((7, 1001)).astype(np.float32)
    stored, counts = testing.encode(x, "f32", "bf16", "recover")
    error = x.astype(np.float64) - bf16_to_f32(stored.view(np.uint16))
    assert counts["error_squares"] == pytest.approx((error**2).sum(), rel=1e-6)
    assert counts["on_grid"] == (error == 0).sum()
    assert counts["saturated"] == 0
    assert testing.encode(x, "f32", "f32", "recover")[1]["on_grid"] == x.size
