"""encode_codes: the bytes that plain numpy packs, and what it says of them."""
# ruff: noqa: N803, N806  (dimensions have capital letters)

import numpy as np
import pytest
from encoders import KINDS, ROUND, weights
from kernel_checks import testing, unaligned
from scale_rules import BITS, codes_of, ends, packed

from gemmule.checkpoints import checkpoint
from gemmule.reference import read_file
from gemmule.reference.operations import unpack_codes
from golden_cases import FIXTURES


def rows_of(kind: str, source: str, K: int) -> tuple[np.ndarray, np.ndarray]:
    """(5, K), and a scale for each, among them one that reaches all weights, one that few, and 0."""
    x = ROUND[source](weights(kind, 5, max(K, 32))[:, :K])
    largest = np.abs(x).max(axis=1, keepdims=True).astype(np.float32)
    return x, np.float32([[0.011], [0.3], [1.0], [0.05], [0.0]]) * largest


@pytest.mark.parametrize("codes", BITS)
@pytest.mark.parametrize("source", ROUND)
def test_bytes_and_counts(target, codes, source):
    for K in (4, 8, 12, 32, 36, 60, 64, 68, 100, 128, 1536):
        for kind in KINDS if K == 1536 else ["normal"]:
            x, scales = rows_of(kind, source, K)
            got, counts = testing.encode_codes(unaligned(x, K % 3), codes, source, scales)
            want = codes_of(x, scales, codes)
            assert np.array_equal(got, packed(want, codes)), (kind, K)
            decoded = (want.astype(np.float32) * scales).astype(np.float32)
            exact, error = x.astype(np.float64), x.astype(np.float64) - decoded
            assert counts["elements"] == x.size
            assert counts["squares"] == pytest.approx((exact**2).sum(), rel=1e-12)
            # x - decoded is rounded to float32.
            assert counts["error_squares"] == pytest.approx((error**2).sum(), rel=1e-6, abs=1e-12 * (exact**2).sum())
            with np.errstate(divide="ignore", invalid="ignore"):
                unclamped = np.where(scales == 0, 0, np.rint(x / scales))
            assert counts["saturated"] == (want != unclamped).sum()
            back = (ROUND[source](decoded) == x).all(axis=1)
            assert counts["on_grid"] == back.sum() * K


def test_groups_have_scales_of_their_own(target):
    random = np.random.default_rng(0)
    for codes, group in (("g4", 32), ("c4", 64), ("c4", 6), ("c2", 4), ("c2", 256), ("c8", 1)):
        all_codes = random.integers(ends(codes)[0], ends(codes)[1] + 1, (3, 7, group)).astype(np.float32)
        scales = random.uniform(0.01, 1.0, (3, 7)).astype(np.float32) * random.choice([-1, 1], (3, 7)).astype(
            np.float32
        )
        x = (all_codes * scales[..., None]).reshape(3, -1)
        got, counts = testing.encode_codes(x, codes, "f32", scales)
        assert np.array_equal(got, packed(all_codes.reshape(3, -1), codes)), codes
        assert counts["on_grid"] == x.size
        assert counts["error_squares"] == counts["saturated"] == 0
        x[1, 2 * group] = 0.3 * scales[1, 2]  # its group no longer comes back
        assert testing.encode_codes(x, codes, "f32", scales)[1]["on_grid"] == x.size - group


def test_ties_go_to_even_and_ends_hold(target):
    x = np.float32([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 6.5, 7.5, 1e30, -8.5, -9.0, -3e38]])
    got, counts = testing.encode_codes(x, "c4", "f32", np.ones((1, 1), np.float32))
    assert unpack_codes(got, 4).tolist() == [[0, 2, 2, 0, -2, -2, 6, 7, 7, -8, -8, -8]]
    assert counts["saturated"] == 4  # 7.5 would be 8; -8.5 is -8


def test_numbers_without_an_exponent(target):
    """The least float16 and what is below, whose products have few bits."""
    x = np.float32([[2.0**-24, -(2.0**-23), 3 * 2.0**-24, 7 * 2.0**-24] * 5])
    got, counts = testing.encode_codes(x, "c4", "f16", np.full((1, 1), 2.0**-24, np.float32))
    assert unpack_codes(got, 4)[0, :4].tolist() == [1, -2, 3, 7]
    assert counts["on_grid"] == 20
    x = (x * np.float32(2.0**-116)).astype(np.float32)  # subnormal float32
    scale = np.full((1, 1), np.finfo(np.float32).tiny, np.float32)
    assert np.array_equal(testing.encode_codes(x, "c4", "f32", scale)[0], packed(codes_of(x, scale, "c4"), "c4"))


@pytest.mark.parametrize("codes", ["c2", "c4", "c8"])
def test_scales_of_a_trained_checkpoint_give_its_codes(target, codes):
    """As a converter has it whom the trained scales are given. A byte is read as codes of each width."""
    fairy = read_file(checkpoint.find("fairy") / "model.safetensors")
    names = [name for name in fairy if name.endswith(("weight_scale", "embedding_scale"))]
    assert len(names) > 50
    for name in names:
        stored = fairy[name.replace("weight_scale", "weight").replace("embedding_scale", "embedding_quantized")]
        x = (unpack_codes(stored, BITS[codes]).astype(np.float32) * fairy[name]).astype(np.float32)
        got, counts = testing.encode_codes(x, codes, "f32", fairy[name])
        assert np.array_equal(got, stored.view(np.uint8)), name
        assert counts["on_grid"] == x.size, name


def test_absmax_gives_the_packed_fixture(target):
    """The fixture's bytes, from the weights that it was made of."""
    source = read_file(FIXTURES / "mobile_source" / "model.safetensors")
    made = read_file(FIXTURES / "mobile_absmax" / "model.safetensors")
    scale_names = [name for name in made if name.endswith(("weight_scale", "embedding_scale"))]
    assert len(scale_names) > 50
    for name in scale_names:
        module, kind = name.rsplit(".", 1)
        tensor = "model.language_model.embed_tokens" if module == "lm_head" else module
        x, want = source[tensor + ".weight"], made[name]
        stored = made[module + (".weight" if kind == "weight_scale" else ".embedding_quantized")].view(np.uint8)
        codes = f"c{8 * stored.shape[1] // x.shape[1]}"
        scales = testing.find_scales(x, "absmax", codes, "bf16", "f32", want.shape[1])
        assert np.array_equal(scales, want), name
        assert np.array_equal(testing.encode_codes(x, codes, "bf16", scales)[0], stored), name
