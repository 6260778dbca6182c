"""What stands between the model's logits and the sampler: processors, biases, and in which order."""

import json
import math
import shutil

import numpy as np
import pytest

import gemmule
from fakes import TOKENIZER, TURN_END, fake_model

PROMPT = [2, 299, 300]
LIKELIEST = 299
NEXT = {299: 301, 301: 302}


def says_299(**options):
    return fake_model(TOKENIZER, lambda ids: LIKELIEST, **options)


def row(likeliest=LIKELIEST):
    """What the fake model computes."""
    logits = np.zeros(640, np.float32)
    logits[likeliest] = np.log(639)
    return logits


def tokens(model, **options):
    return model.generate(PROMPT, max_tokens=3, **{"temperature": 0, **options}).tokens


# Biases


def test_bias_is_added():
    model = says_299()
    assert tokens(model, logit_bias={40: 6.4}) == [LIKELIEST] * 3  # ln 639 = 6.46
    assert tokens(model, logit_bias={40: 6.5}) == [40] * 3
    assert tokens(model, logit_bias={40: 6.5, LIKELIEST: 1}) == [LIKELIEST] * 3
    assert tokens(model, logit_bias={LIKELIEST: -7, 639: np.float32(0.5), 11: np.float32(-np.inf)}) == [639] * 3


def test_minus_infinity_forbids():
    forbidden = {id: -math.inf for id in range(640) if id != 17}
    for temperature in (0, 1.0, 100.0):
        assert tokens(says_299(), logit_bias=forbidden, temperature=temperature, top_p=1.0, top_k=0) == [17] * 3


def test_logprobs_are_the_models_own():
    result = says_299().generate(PROMPT, max_tokens=2, logit_bias={40: 100.0}, temperature=0, logprobs=True)
    assert result.tokens == [40, 40]
    assert result.logprobs == pytest.approx([math.log(0.5 / 639)] * 2)


@pytest.mark.parametrize(
    "wrong",
    [{640: 1.0}, {-1: 1.0}, {"a": 1.0}, {True: 1.0}, {3: math.nan}, {3: math.inf}, {3: "1"}, {3: None}, [(3, 1.0)], 5],
    ids=repr,
)
def test_refuses_biases(wrong):
    model = says_299()
    for call in (model.generate, model.stream):
        with pytest.raises(gemmule.ArgumentError, match="logit_bias"):
            call(PROMPT, logit_bias=wrong)
    assert not model._core.prefilled


def test_nothing_left():
    model = says_299()
    with pytest.raises(gemmule.ArgumentError, match=r"no largest finite value.*\n.*logit_bias"):
        tokens(model, logit_bias=dict.fromkeys(range(640), -math.inf))
    assert tokens(model) == [LIKELIEST] * 3


# Processors


def test_processors_see_ids_and_logits():
    seen = []
    model = fake_model(TOKENIZER, lambda ids: NEXT.get(ids[-1], 299))

    def note(ids, logits):
        assert ids.dtype == np.int32
        assert logits.dtype == np.float32
        assert logits.flags.writeable
        seen.append((ids.tolist(), logits.copy()))

    assert tokens(model, logits_processors=[note]) == [299, 301, 302]
    assert [ids for ids, _ in seen] == [PROMPT, [*PROMPT, 299], [*PROMPT, 299, 301]]
    for (_, logits), likeliest in zip(seen, (299, 301, 302), strict=True):
        np.testing.assert_array_equal(logits, row(likeliest))


def test_ids_are_not_to_be_written_to():
    def write(ids, logits):
        ids[0] = 5

    with pytest.raises(ValueError, match="read-only"):
        tokens(says_299(), logits_processors=[write])


def in_place(ids, logits):
    logits[40] = 50


def another(ids, logits):
    changed = logits.copy()
    changed[41] = changed[40] + 1
    return changed


def test_processors_change_logits_one_after_the_other():
    model = says_299()
    assert tokens(model, logits_processors=[in_place]) == [40] * 3
    assert tokens(model, logits_processors=[in_place, another]) == [41] * 3
    assert tokens(model, logits_processors=(another, in_place)) == [40] * 3  # when 40 was 0, 41 became 1
    result = model.generate(PROMPT, max_tokens=1, temperature=0, logits_processors=[in_place, another], logprobs=True)
    assert result.logprobs == pytest.approx([math.log(0.5 / 639)])


def test_what_a_processor_returned_stays_its_own():
    mine = np.zeros(640, np.float32)
    mine[7] = 1
    assert tokens(says_299(), logits_processors=[lambda ids, logits: mine], logit_bias={8: 3.0}) == [8] * 3
    assert mine[8] == 0


def test_processors_of_a_batch():
    """Each sequence by itself."""
    model = fake_model(TOKENIZER, lambda ids: 299)

    def first_again(ids, logits):
        logits[ids[0]] = 99

    results = model.generate([[5, 3], [6], [7, 7, 7]], max_tokens=2, temperature=0, logits_processors=[first_again])
    assert [result.tokens for result in results] == [[5, 5], [6, 6], [7, 7]]


def test_an_exception_comes_as_it_is():
    class OwnError(Exception):
        pass

    def fails_later(ids, logits):
        if len(ids) == 5:
            raise OwnError

    model = gemmule.load("fairy")
    want = model.generate("A king", seed=1, max_tokens=9).text
    for call in (
        lambda: model.generate("A king", logits_processors=[fails_later]),
        lambda: model.generate(["A king", "A fox"], logits_processors=[fails_later]),
        lambda: list(model.stream("A king", logits_processors=[fails_later])),
    ):
        with pytest.raises(OwnError):
            call()
        assert model.generate("A king", seed=1, max_tokens=9).text == want


def test_an_exception_leaves_a_chat_as_it_was(tmp_path):
    shutil.copytree(TOKENIZER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": TURN_END}))
    chat = fake_model(tmp_path, lambda ids: TURN_END).chat()
    chat.send("Hello")
    before = chat.messages

    def fails(ids, logits):
        raise KeyError("x")

    with pytest.raises(KeyError):
        chat.send("Bye", logits_processors=[fails])
    assert chat.messages == before
    chat.send("Bye")
    assert len(chat.messages) == 4


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (np.zeros(639, np.float32), r"\(639,\); expected .* shape \(640,\)"),
        (np.zeros((1, 640), np.float32), r"\(1, 640\)"),
        (np.zeros(640), "float64"),
        (np.zeros(640, np.int32), "int32"),
        ([0.0] * 640, r"\[0.0"),
        (3, "returned 3"),
        (np.ma.zeros(640, np.float32), "returned masked_array"),
        (np.full(640, np.nan, np.float32), "nan"),
        (np.where(np.arange(640) == 600, np.float32(np.nan), np.float32(0)), "nan"),
        (np.where(np.arange(640) == 600, np.float32(np.inf), np.float32(0)), "inf"),
    ],
    ids=str,
)
def test_refuses_what_a_processor_returns(returned, said):
    model = says_299()
    with pytest.raises(gemmule.ArgumentError, match=r"logits_processors\[1\].*" + said):
        tokens(model, logits_processors=[in_place, lambda ids, logits: returned])
    assert tokens(model) == [LIKELIEST] * 3


@pytest.mark.parametrize("change", ["freeze", "reshape", "resize", "retype"])
def test_a_processor_may_do_to_the_array_what_it_likes(change):
    """It is the processor's own; the numbers in it are what counts."""

    def forget(ids, logits):
        if change == "freeze":
            logits.flags.writeable = False
        elif change == "reshape":
            logits.shape = (2, -1)
        elif change == "resize":
            with pytest.raises(ValueError, match="own its data"):
                logits.resize(7)
        else:
            logits.dtype = np.int32

    model = says_299()
    assert tokens(model, logits_processors=[forget, in_place], logit_bias={3: -1.0}) == tokens(
        model, logits_processors=[in_place]
    )
    with pytest.raises(gemmule.ArgumentError, match="float32 with shape"):
        tokens(model, logits_processors=[lambda ids, logits: logits.reshape(2, -1)])


def test_refuses_nan_written_in_place():
    def write(ids, logits):
        logits[3] = np.nan

    with pytest.raises(gemmule.ArgumentError, match=r"logits_processors\[0\] made a logit nan"):
        tokens(says_299(), logits_processors=[write])


@pytest.mark.parametrize("wrong", [in_place, [3], [None], "abc", {in_place}], ids=repr)
def test_refuses_processors(wrong):
    with pytest.raises(gemmule.ArgumentError, match="logits_processors is"):
        says_299().generate(PROMPT, logits_processors=wrong)


# Their order: processors, bias, what the checkpoint suppresses, grammar, penalty


def test_biases_come_behind_processors():
    model = says_299()
    assert tokens(model, logits_processors=[lambda ids, logits: np.zeros_like(logits)], logit_bias={40: 1}) == [40] * 3


def test_suppressed_tokens_come_behind_processors(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "generation_config.json").write_text('{"suppress_tokens": [40, 9999], "do_sample": false}')
    model = fake_model(tmp_path, lambda ids: LIKELIEST)
    assert model.generate(PROMPT, max_tokens=2, logits_processors=[in_place]).tokens == [LIKELIEST] * 2
    assert model.generate(PROMPT, max_tokens=2, logit_bias={40: 99}).tokens == [LIKELIEST] * 2


def test_the_grammar_comes_behind_biases():
    model = says_299()
    assert model.tokenizer.decode([299, 300, 301]) == "abc"
    pytest.importorskip("llguidance")
    options = {"max_tokens": 1, "temperature": 0, "regex": "[bc]x"}
    assert model.generate(PROMPT, **options).tokens == [104]  # byte b: the lowest id of equals
    assert model.generate(PROMPT, **options, logit_bias={301: 1, 302: 50}).tokens == [301]
    with pytest.raises(gemmule.ArgumentError, match="no largest finite value"):
        model.generate(PROMPT, **options, logit_bias=dict.fromkeys([104, 105, 300, 301], -math.inf))


def test_the_penalty_comes_behind_biases():
    """A logit of 8 from a bias, of a token in the prompt, becomes 8/2: less than ln 639."""
    model = fake_model(TOKENIZER, lambda ids: 400)
    options = {"temperature": 1.0, "top_k": 1, "logit_bias": {300: 8}}
    assert model.generate(PROMPT, max_tokens=1, **options).tokens == [300]
    assert model.generate(PROMPT, max_tokens=1, **options, repetition_penalty=2.0).tokens == [400]
