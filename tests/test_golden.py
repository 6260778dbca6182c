"""Float checkpoints through the public face against golden values of the model's original implementation."""

import numpy as np
import pytest

import gemmule
from gemmule.reference import Reference
from golden_cases import read_case

# Reordered float32 sums alone move a logit by 1e-4 (case.json: float32_noise).
LOGIT_BOUND = 2e-3


@pytest.fixture
def model(float_case):
    return gemmule.load(float_case.folder, kv="float32")


def test_logits(float_case, model):
    logits = model.logits(float_case.ids)
    assert logits.dtype == np.float32
    assert np.abs(logits - float_case.golden["logits"]).max() <= LOGIT_BOUND


def test_greedy_ids(float_case, model):
    golden = float_case.golden
    error = np.abs(model.logits(float_case.ids) - golden["logits"]).max()
    result = model.generate(float_case.ids, temperature=0, ignore_eos=True, max_tokens=32)
    assert_greedy(result.tokens, golden["greedy_ids"], golden["greedy_margin"], error)
    assert result.finish_reason == "length"


def assert_greedy(got, want, margins, error):
    """Equal while the margin between the two best tokens exceeds what the error could turn over; then anything goes."""
    assert len(got) == len(want)
    for step, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        if ours != theirs:
            assert margins[step] <= 4 * error, f"step {step}: {ours} instead of {theirs}"
            return


def test_nll(float_case, model):
    decoder = gemmule._core.Decoder(model._core)
    nll = -decoder.score(float_case.ids, 1).sum()
    assert nll == pytest.approx(float_case.facts["nll"], rel=1e-3)


def test_hidden_states_layer_by_layer():
    """Layer i on the golden input of layer i: names the layer that is wrong. Only e2b records all positions."""
    case = read_case("e2b")
    hidden = case.hidden()
    core = gemmule.load(case.folder, kv="float32")._core
    outputs = gemmule._core.testing.layer_outputs(core, case.ids, np.stack(hidden[:-1]))
    for got, want in zip(outputs[:-1], hidden[1:-1], strict=True):  # the last golden one is after the final norm
        assert np.abs(got - want).max() <= 2e-4


@pytest.mark.parametrize("name", ["e2b", "dense", "e4b"])
def test_placeholders_without_their_content_are_embedded_as_pad(name):
    """Ids of image, video and audio soft tokens, as config.json names them; a text-only config (e4b) names none."""
    case = read_case(name)
    ids = np.concatenate([case.ids[:8], [635], case.ids[8:12], [638, 639, 633], case.ids[12:20]]).astype(np.int32)
    model = gemmule.load(case.folder, kv="float32")
    assert np.abs(model.logits(ids) - Reference(case.folder).logits(ids)).max() <= LOGIT_BOUND
    as_pad = np.where(np.isin(ids, [635, 638, 639]), 0, ids)
    assert np.array_equal(model.logits(ids), model.logits(as_pad)) == (name != "e4b")
