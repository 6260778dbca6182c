"""The numpy reference against the fixtures' golden values: it must be right before the kernels are held to it."""

import numpy as np
import pytest

from gemmule.reference import Reference
from gemmule.reference.model import token_log_probabilities
from gemmule.reference.operations import pack_codes, unpack_codes


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_float_fixture(float_case, dtype):
    golden, ids = float_case.golden, float_case.ids
    reference = Reference(float_case.folder, dtype)
    states = reference.hidden(ids)
    logits = reference.head(states[-1])
    states[-1] = reference.final_norm(states[-1])
    for state, want in zip(states, float_case.hidden(), strict=True):
        assert np.abs(state[-len(want) :] - want).max() <= 2e-4
    assert np.abs(logits - golden["logits"]).max() <= 5e-4
    assert -token_log_probabilities(logits, ids).sum() == pytest.approx(float_case.facts["nll"], rel=1e-5)


def test_mobile_modules_match_exactly_in_float32(mobile_case):
    reference = Reference(mobile_case.folder, np.float32)
    names = [name[3:-3] for name in mobile_case.golden if name.startswith("op.") and name.endswith(".in")]
    assert len(names) >= 9
    for name in names:
        x, want = mobile_case.golden[f"op.{name}.in"], mobile_case.golden[f"op.{name}.out"]
        assert np.abs(reference.linear(name, x.shape[1])(x) - want).max() <= 2e-6, name
    for embedding in ("embed_tokens", "embed_tokens_per_layer"):
        want = mobile_case.golden[f"op.{reference.prefix}{embedding}.out"]
        assert np.array_equal(getattr(reference, embedding)(mobile_case.ids[: len(want)]), want)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_mobile_short_prompts(mobile_case, dtype):
    golden = mobile_case.golden
    reference = Reference(mobile_case.folder, dtype)
    errors = [
        np.abs(reference.logits(ids)[-1] - want).max()
        for ids, want in zip(golden["short_ids"], golden["short_logits_last"], strict=True)
    ]
    assert sum(error <= 1e-4 for error in errors) >= 14


def test_mobile_long_prompt(mobile_case):
    reference = Reference(mobile_case.folder, np.float32)
    logits = reference.logits(mobile_case.ids)
    assert np.abs(logits - mobile_case.golden["logits"]).mean() <= 0.02
    nll = -token_log_probabilities(logits, mobile_case.ids).sum()
    assert nll == pytest.approx(mobile_case.facts["nll"], rel=1e-3)


def test_mobile_static_cache(mobile_case):
    golden = mobile_case.golden
    logits = Reference(mobile_case.folder, np.float32, kv="static").logits(mobile_case.ids)[-32:]
    between = np.abs(golden["logits"][-32:] - golden["kvq_logits_last32"]).mean()
    assert np.abs(logits - golden["kvq_logits_last32"]).mean() <= 0.5 * between


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_survive_packing(bits):
    codes = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1), dtype=np.int8)
    codes = np.stack([codes, codes[::-1]])
    assert np.array_equal(unpack_codes(pack_codes(codes, bits), bits), codes)


def test_unpacking_puts_low_bits_first():
    assert unpack_codes(np.array([[0x1F]], np.uint8), 4).tolist() == [[7, -7]]
    assert unpack_codes(np.array([[0b11100100]], np.uint8), 2).tolist() == [[-2, -1, 0, 1]]
    assert unpack_codes(np.array([[0x80]], np.uint8), 8).tolist() == [[-128]]
