"""The scale of weights that are codes times a scale: found wherever there is one, against all scales there are."""

import numpy as np
import pytest
from encoders import ROUND, bf16, weights
from kernel_checks import testing
from scale_rules import BITS, codes_of, ends, fitting_scales, packed, squared_error


def on_grid(codes: str, source: str, n: int, seed: int, scale_type: str = "f32") -> tuple[np.ndarray, np.ndarray]:
    """(n,) weights in the source's type, and their codes."""
    random = np.random.default_rng([seed, n])
    most = min(seed % 9 + 1, ends(codes)[1]) if seed % 3 else ends(codes)[1]  # some without the last codes
    all_codes = random.integers(max(ends(codes)[0], -most - 1), most + 1, n)
    scale = ROUND[scale_type](np.float32([random.uniform(0.003, 0.05)]))
    return ROUND[source]((all_codes.astype(np.float32) * scale).astype(np.float32)), all_codes


def comes_back(x: np.ndarray, codes: str, source: str, scale: float) -> bool:
    return testing.encode_codes(x[None], codes, source, np.float32([[scale]]))[1]["on_grid"] == x.size


@pytest.mark.parametrize("codes", BITS)
@pytest.mark.parametrize("source", ROUND)
@pytest.mark.parametrize("scale_type", ["f32", "bf16"])
def test_every_row_on_a_grid_comes_back(target, codes, source, scale_type):
    for n in (4, 32, 60, 256, 1536):
        for seed in range(60 if n < 1536 else 12):
            x, _ = on_grid(codes, source, n, seed, scale_type)
            if not x.any():
                continue
            scale = testing.recovered_scale(x, codes, source, scale_type)
            assert scale is not None, (n, seed)
            assert scale > 0
            assert ROUND[scale_type](np.float32([scale]))[0] == np.float32(scale)
            assert comes_back(x, codes, source, scale), (n, seed)


def test_large_codes_that_round_to_one_number(target):
    """bfloat16 has eight bits: of codes 124 and 125 both may give a weight, until the others settle the scale."""
    all_codes = np.arange(-128, 128, dtype=np.float32)
    for step in np.append(np.random.default_rng(0).uniform(0.01, 0.02, 2000), 0.017561687).astype(np.float32):
        x = bf16(all_codes * step)
        scale = testing.recovered_scale(x, "c8", "bf16", "f32")
        assert scale is not None, step
        assert comes_back(x, "c8", "bf16", scale), step


@pytest.mark.parametrize("codes", ["c2", "c4", "g4"])
@pytest.mark.parametrize("source", ROUND)
def test_the_best_of_all_scales(codes, source):
    """bfloat16 scales can all be tried: the one found fits, if one does, and none that fits has a lesser error."""
    fits = 0
    for seed in range(300):
        x = on_grid(codes, source, 32, seed, "bf16")[0] if seed % 2 else on_grid(codes, "bf16", 4, seed, "f32")[0]
        x = ROUND[source](x * np.float32([1, 1.003, 2.0**-10, 2.0**-14, 1.003][seed % 5]))  # some float16 subnormal
        if not x.any():
            continue
        every = fitting_scales(x, codes, source, "bf16")
        scale = testing.recovered_scale(x, codes, source, "bf16")
        if len(every) == 0:
            assert scale is None or scale < 0
            continue
        fits += 1
        assert scale is not None, seed
        assert np.float32(scale) in every, seed
        error, least = squared_error(x, np.float32([scale]), codes)[0], squared_error(x, every, codes).min()
        assert error <= least * (1 + 1e-6) + 1e-12 * np.square(x.astype(np.float64)).sum(), seed
    assert fits > 50


def test_codes_of_a_dequantized_checkpoint_come_back(target):
    """Codes and all, where they hold the last ones: another grid does not fit."""
    for codes in ("c2", "c4", "c8"):
        for source in ROUND:
            for seed in range(0, 30, 3):
                x, want = on_grid(codes, source, 1536, seed)
                scale = np.float32([[testing.recovered_scale(x, codes, source, "f32")]])
                assert np.array_equal(testing.encode_codes(x[None], codes, source, scale)[0], packed(want[None], codes))


@pytest.mark.parametrize("source", ROUND)
def test_a_negative_scale_only_where_none_else_does_it(target, source):
    x, all_codes = on_grid("c4", source, 256, 0)
    assert {-8, 7} <= set(all_codes.tolist())
    scale = testing.recovered_scale(-x, "c4", source, "f32")
    assert scale < 0
    assert comes_back(-x, "c4", source, scale)
    tame = np.where(all_codes == -8, 0, x).astype(np.float32)
    assert testing.recovered_scale(-tame, "c4", source, "f32") > 0


def test_none_where_there_is_no_grid(target):
    for kind in ("normal", "laplace", "uniform", "near a grid"):
        for row in weights(kind, 10, 256):
            for codes in ("c2", "c4", "c8", "g4"):
                assert testing.recovered_scale(row, codes, "bf16", "f32") is None
    x, _ = on_grid("c4", "bf16", 256, 0)
    x[200] = bf16(x[200:201] * np.float32(1.02) + np.float32(0.0001))[0]  # one weight beside it
    assert testing.recovered_scale(x, "c4", "bf16", "f32") is None
    assert testing.recovered_scale(np.zeros(32, np.float32), "c4", "bf16", "f32") is None


def test_extreme_numbers(target):
    for x in (
        np.float32([1e-45, 3e-45, -7e-45, 0]),
        np.float32([3.4028235e38, -3.4028235e38, 0, 0]),
        np.float32([2.0**-149, 1.0, 0, 0]),
        np.float32([np.finfo(np.float32).tiny, -np.finfo(np.float32).tiny * 4, 0, 0]),
    ):
        for codes in ("c2", "c4", "c8"):
            scale = testing.recovered_scale(x, codes, "f32", "f32")
            if scale is not None:
                assert comes_back(x, codes, "f32", scale)
                assert np.array_equal(codes_of(x, np.float32([scale]), codes) * np.float32(scale), x)
