"""gelu_mul: gelu(gate) * up."""

import numpy as np
from kernel_checks import LENGTHS, U, assert_same_bits_on_all_targets, assert_within, testing, unaligned

GATE = np.concatenate([np.linspace(-12, 12, 20001), [0, -100, 100, -1e4, 1e4]]).astype(np.float32)
UP = np.random.default_rng(0).standard_normal(len(GATE)).astype(np.float32)


def exact(gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The product, and 2 sqrt(2/pi) (x + 0.044715 x^3), the argument of the exponential."""
    x = gate.astype(np.float64)
    z = 2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return x / (1 + np.exp(np.minimum(-z, 700))) * up, z


def test_error(target):
    want, z = exact(GATE, UP)
    # Six roundings in z act on e^z as 6 z; the exponential errs by 4, the rest has four roundings. The exponential
    # ends at e^88.3: what lies beyond is below 1e-33.
    share = np.where(z < 0, np.minimum(-z, 90), 0)
    assert_within(testing.gelu_mul(GATE, UP), want, (6 * share + 8) * U * np.abs(want) + 1e-33 * np.abs(UP))


def test_lengths(target):
    whole = testing.gelu_mul(GATE, UP)
    for n in LENGTHS:
        assert np.array_equal(testing.gelu_mul(unaligned(GATE[:n], n % 4), unaligned(UP[:n], n % 3)), whole[:n]), n


def test_same_bits():
    assert_same_bits_on_all_targets(lambda: testing.gelu_mul(GATE, UP))
