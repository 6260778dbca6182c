"""Mobile checkpoints (packed weights, static activation scales) against golden values.

Rounding is discontinuous: a value that falls on the other side of a tie moves all that follows by a step. Modules and
layers are therefore held to tight bounds, whole prompts to shares and means (the fixtures' case.json gives both).
"""

import numpy as np
import pytest

import gemmule
from gemmule.reference import Reference

testing = gemmule._core.testing


@pytest.fixture(params=["auto", "float32"])
def activations(request):
    """Static scales are part of the model: with "float32" only the products change."""
    return request.param


@pytest.fixture
def model(mobile_case, activations):
    return gemmule.load(mobile_case.folder, kv="float32", activations=activations)


def near_tie(x: np.ndarray, scale: float) -> np.ndarray:
    """Where x / scale lies within 1e-4 of the middle between two codes."""
    if scale == 0:
        return np.zeros(x.shape, bool)
    return np.abs(np.abs(x / scale - np.floor(x / scale)) - 0.5) <= 1e-4


def test_modules(mobile_case, model):
    reference = Reference(mobile_case.folder)
    names = [name[3:-3] for name in mobile_case.golden if name.startswith("op.") and name.endswith(".in")]
    for name in names:
        x, want = mobile_case.golden[f"op.{name}.in"], mobile_case.golden[f"op.{name}.out"]
        got = testing.linear(model._core, name, x)
        module = reference.linear(name, x.shape[1])
        exact = module.before_output_rounding(x.astype(np.float64))
        bound = 1e-4 * np.maximum(np.abs(want), np.abs(want).max() * 1e-2)
        tied = near_tie(exact, module.output_scale) | near_tie(x, module.input_scale).any(axis=1, keepdims=True)
        assert (np.abs(got - want) <= bound + tied * 1.0001 * module.output_scale).all(), name


def test_embeddings(mobile_case, model):
    for name in ("model.language_model.embed_tokens", "model.language_model.embed_tokens_per_layer"):
        want = mobile_case.golden[f"op.{name}.out"]
        assert np.array_equal(testing.embed(model._core, name, mobile_case.ids[: len(want)]), want)


def test_layers(mobile_case, model):
    """From the recorded states. The last golden one is after the final norm, which the reference adds to ours."""
    reference = Reference(mobile_case.folder, np.float32)
    golden = mobile_case.hidden()
    inputs = golden if len(golden[0]) == len(mobile_case.ids) else reference.hidden(mobile_case.ids)
    outputs = list(testing.layer_outputs(model._core, mobile_case.ids, np.stack(inputs[:-1])))
    outputs[-1] = reference.final_norm(outputs[-1])
    for i, (got, want) in enumerate(zip(outputs, golden[1:], strict=True)):
        assert (np.abs(got[-len(want) :] - want) <= 1e-3).mean() >= 0.95, f"layer {i}"


def test_short_prompts(mobile_case, model):
    golden = mobile_case.golden
    errors = [
        np.abs(model.logits(ids)[-1] - want).max()
        for ids, want in zip(golden["short_ids"], golden["short_logits_last"], strict=True)
    ]
    assert sum(error <= 5e-3 for error in errors) >= 10


def test_long_prompt(mobile_case, model):
    logits = model.logits(mobile_case.ids)
    assert np.abs(logits - mobile_case.golden["logits"]).mean() <= 0.5
    nll = -gemmule._core.Decoder(model._core).score(mobile_case.ids, 1).sum()
    assert nll == pytest.approx(mobile_case.facts["nll"], rel=1e-2)


def test_static_cache(mobile_case, activations):
    model = gemmule.load(mobile_case.folder, kv="static", activations=activations)
    golden = mobile_case.golden
    logits = model.logits(mobile_case.ids)[-32:]
    between = np.abs(golden["logits"][-32:] - golden["kvq_logits_last32"]).mean()
    assert np.abs(logits - golden["kvq_logits_last32"]).mean() <= 0.6 * between


def test_what_auto_becomes(mobile_case):
    core = gemmule.load(mobile_case.folder)._core
    assert (core.activations, core.kv) == ("static", "static")


def test_generates(mobile_case):
    model = gemmule.load(mobile_case.folder, kv="static")
    first = model.generate(mobile_case.ids, temperature=0, ignore_eos=True, max_tokens=32).tokens
    again = model.generate(mobile_case.ids, temperature=0, ignore_eos=True, max_tokens=32).tokens
    assert first == again
    assert len(first) == 32
    # Argmax takes the lowest id, also where lm_head's output grid makes exact ties.
    assert first[0] == int(np.argmax(model.logits(mobile_case.ids)[-1]))
