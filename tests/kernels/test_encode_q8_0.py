"""Q8_0 by llama.cpp's rule, bit for bit."""

import numpy as np
import pytest
from encoders import KINDS, llama_q8_0, weights
from kernel_checks import assert_same_bits_on_all_targets, testing, unaligned


def encode(x: np.ndarray, source: str = "bf16") -> np.ndarray:
    return testing.encode(unaligned(x, 1), source, "q8_0", "recover")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_llama(target, kind):
    x = weights(kind, 40, 1536)
    assert np.array_equal(encode(x), llama_q8_0(x))


def test_edges(target):
    """Halves between codes go away from zero; scales that float16 rounds to 0; the number before one half."""
    random = np.random.default_rng(0)
    x = np.zeros((5, 96), np.float32)
    x[1] = np.append(np.arange(95) - 47.5, 127)
    x[2] = random.standard_normal(96) * 1e-8
    x[3] = np.append(np.full(95, np.nextafter(np.float32(0.5), np.float32(0))), 127)
    x[4] = -0.0
    assert np.array_equal(encode(x, "f32"), llama_q8_0(x))


def test_equals_the_gguf_package():
    gguf = pytest.importorskip("gguf", reason="pip install gguf, to compare with the format's own package")
    x = weights("normal", 100, 1536, seed=1)
    assert np.array_equal(encode(x), gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0))


def test_same_bits_on_all_targets():
    x = weights("heavy tails", 20, 1536)
    assert_same_bits_on_all_targets(lambda: [*testing.encode(x, "bf16", "q8_0", "recover")[1].values()])


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_harms_nothing(target, odd):
    x = weights("normal", 1, 96)
    want = encode(x)
    x[0, 40] = odd
    got = encode(x, "f32")
    assert np.array_equal(got[:, :34], want[:, :34])
    assert np.array_equal(got[:, 68:], want[:, 68:])
