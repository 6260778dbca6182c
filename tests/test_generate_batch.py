"""Several prompts at once: each gets what it gets alone, and errors say whose they are."""

import math
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gemmule
from fakes import TOKENIZER, TURN_END, fake_model
from golden_cases import FIXTURES

KINDS = ["e2b", "mobile", "moe", "gguf_e2b/model-Q4_0.gguf"]
PROMPTS = [[2, 5, 7], [2], list(range(2, 90)), [2, 5, 7], [9, 9]]


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return gemmule.load(FIXTURES / request.param, threads=3, prefix_cache=0)  # each alone, indeed


@pytest.fixture(scope="module")
def fairy():
    return gemmule.load("fairy", prefix_cache=0)


def same(result, other):
    """Equal but for the times."""
    times = {"prefill_seconds": 0.0, "decode_seconds": 0.0}
    plain = [replace(each, usage=replace(each.usage, **times)) for each in (result, other)]
    return plain[0] == plain[1]


def assert_each_as_alone(model, prompts, **options):
    results = model.generate(prompts, **options)
    assert isinstance(results, list)
    assert len(results) == len(prompts)
    for prompt, result in zip(prompts, results, strict=True):
        assert same(result, model.generate(prompt, **options))
    return results


# Each as alone


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"temperature": 1.0, "seed": 3, "top_k": 0, "repetition_penalty": 1.3},
        {"temperature": 1.5, "seed": 4},
    ],
)
def test_each_gets_what_it_gets_alone(model, options):
    results = assert_each_as_alone(model, PROMPTS, max_tokens=24, ignore_eos=True, logprobs=True, **options)
    assert [len(result.tokens) for result in results] == [24] * 5
    assert results[0].tokens == results[3].tokens  # equal prompts, one seed
    assert all(len(result.logprobs) == 24 for result in results)


def test_texts_and_stop_strings(fairy):
    prompts = ["Once upon a time", "The king", "Once upon a time", "She said"]
    results = assert_each_as_alone(fairy, prompts, seed=1, max_tokens=60, stop=["the", ","])
    assert {result.finish_reason for result in results} == {"stop"}
    assert len({len(result.tokens) for result in results}) > 1  # they left the batch one after the other
    assert not any("the" in result.text or "," in result.text for result in results)


def test_every_prompt_has_a_seed_of_its_own(fairy):
    results = fairy.generate(["Once upon a time"] * 4, temperature=1.0, top_k=0, max_tokens=30)
    assert len({result.text for result in results}) == 4


def test_more_prompts_than_go_at_once(fairy):
    prompts = [[2, 5 + i] for i in range(150)]
    results = fairy.generate(prompts, seed=9, max_tokens=3, ignore_eos=True)
    assert len(results) == 150
    for place in (0, 63, 64, 65, 127, 128, 149):
        assert same(results[place], fairy.generate(prompts[place], seed=9, max_tokens=3, ignore_eos=True))


def test_a_full_context_ends_one_of_them():
    model = gemmule.load(FIXTURES / "mobile", context=30)
    prompts = [[2, 5], list(range(2, 32)), list(range(2, 22))]
    results = assert_each_as_alone(model, prompts, max_tokens=20, seed=1, ignore_eos=True)
    assert [(len(result.tokens), result.finish_reason) for result in results] == [
        (20, "length"),
        (1, "length"),
        (11, "length"),
    ]


def test_without_limit_of_tokens():
    model = gemmule.load(FIXTURES / "mobile", context=30)
    results = assert_each_as_alone(model, [[2, 5], [2, 6, 7]], max_tokens=None, seed=1, ignore_eos=True)
    assert [result.usage.total_tokens for result in results] == [31, 31]


@settings(database=None, deadline=None, max_examples=20)
@given(
    prompts=st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=70), min_size=1, max_size=9),
    seed=st.integers(0, 2**64 - 1),
    temperature=st.sampled_from([0, 0.7, 1.3]),
    top_k=st.sampled_from([0, 8]),
    max_tokens=st.integers(1, 12),
    threads=st.integers(1, 3),
)
def test_any_batch(prompts, seed, temperature, top_k, max_tokens, threads):
    model = gemmule.load(FIXTURES / "mobile", threads=threads, context=76)
    assert_each_as_alone(
        model, prompts, seed=seed, temperature=temperature, top_k=top_k, max_tokens=max_tokens, logprobs=True
    )


# How it is done


def speaking(words):
    """Says to each prompt what the dict has for its first token, then ends its turn."""

    def next_token(ids):
        said = words[ids[0]]
        return said[len(ids) - 2] if len(ids) - 2 < len(said) else TURN_END

    return next_token


def test_a_finished_sequence_leaves(tmp_path):
    (tmp_path / "config.json").write_text('{"eos_token_id": 622}')
    model = fake_model(tmp_path, speaking({1: [], 2: [5, 5, 5], 3: [6]}))
    results = model.generate([[1, 0], [2, 0], [3, 0]], temperature=0)
    assert [result.tokens for result in results] == [[TURN_END], [5, 5, 5, TURN_END], [6, TURN_END]]
    assert [result.finish_reason for result in results] == ["stop"] * 3
    assert model._core.steps == [2, 1, 1]  # the first was done with its prompt
    assert model._core.prefilled[:3] == [[1, 0], [2, 0], [3, 0]]


def test_the_next_comes_when_one_is_done(tmp_path):
    (tmp_path / "config.json").write_text('{"eos_token_id": 622}')
    model = fake_model(tmp_path, speaking({1: [5, 5], 2: [5]}))
    model.generate([[1, 0]] * 63 + [[2, 0]] + [[1, 0]], temperature=0)
    assert model._core.steps == [64, 64, 1]  # the last one begins when the one with a token less is done


def test_usage(tmp_path):
    """Both wait for each other's part of a step, but not for each other's prompts."""
    (tmp_path / "config.json").write_text("{}")

    def slow(ids):
        time.sleep(0.3 if len(ids) == 40 else 0.01)
        return 5

    first, second = (each.usage for each in fake_model(tmp_path, slow).generate([[2, 5, 7], [2] * 40], max_tokens=4))
    assert [(each.prompt_tokens, each.completion_tokens) for each in (first, second)] == [(3, 4), (40, 4)]
    assert first.cached_tokens == second.cached_tokens == 0
    assert 0.01 < first.prefill_seconds < 0.3 < second.prefill_seconds
    assert min(first.decode_seconds, second.decode_seconds) > 0.06  # three steps of two


def test_suppressed_tokens_are_never_said(tmp_path):
    (tmp_path / "config.json").write_text('{"eos_token_id": 1}')
    (tmp_path / "generation_config.json").write_text('{"suppress_tokens": [299]}')
    model = fake_model(tmp_path, lambda ids: 299)
    for result in model.generate([[2, 3], [2]], max_tokens=5, temperature=0, logprobs=True):
        assert result.tokens == [0] * 5
        assert result.logprobs == pytest.approx([math.log(0.5 / 639)] * 5)  # of the model's own distribution


# What is a list of prompts


@pytest.mark.parametrize(
    "prompts",
    [
        [[2, 5], [2]],
        ([2, 5], [2]),
        [(2, 5), (2,)],
        [np.array([2, 5]), np.array([2], np.uint8)],
        [[2, 5], iter([2])],
    ],
    ids=repr,
)
def test_ids_of_any_kind(tmp_path, prompts):
    (tmp_path / "config.json").write_text('{"eos_token_id": 622}')
    model = fake_model(tmp_path, lambda ids: TURN_END)
    assert len(model.generate(prompts, temperature=0)) == 2
    assert model._core.prefilled == [[2, 5], [2]]


@pytest.mark.parametrize("kind", [list, tuple])
def test_one_prompt_stays_one(tmp_path, kind):
    (tmp_path / "config.json").write_text('{"eos_token_id": 622}')
    model = fake_model(tmp_path, lambda ids: TURN_END)
    for prompt in (kind([2, 5]), kind(np.array([2, 5])), [np.array(2), np.array(5)]):
        assert isinstance(model.generate(prompt, temperature=0), gemmule.Result)
    assert model._core.prefilled == [[2, 5]] * 3


def test_texts_and_messages():
    model = fake_model(TOKENIZER, lambda ids: TURN_END)
    tokenizer = model.tokenizer
    hello, bye = ([{"role": "user", "content": text}] for text in ("Hello", "Bye"))
    assert isinstance(model.generate(hello, max_tokens=1), gemmule.Result)
    assert len(model.generate(["ab", "a"], max_tokens=1)) == 2
    assert len(model.generate([hello, bye], max_tokens=1)) == 2
    assert len(model.generate(["ab", hello, [2]], max_tokens=1)) == 3  # of each kind
    hello_ids, bye_ids = map(tokenizer.encode_messages, (hello, bye))
    assert model._core.prefilled == [
        hello_ids,
        *(tokenizer.encode(text) for text in ("ab", "a")),
        hello_ids,
        bye_ids,
        *(tokenizer.encode("ab"), hello_ids, [2]),
    ]


# What is refused


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([], "empty"),
        ([[2], []], "prompt 1: the prompt is empty"),
        (["a", ""], "prompt 1: the prompt is empty"),
        ([[2], [2, 640]], "prompt 1: token id 640 at position 1"),
        ([[2], 5], "prompt 1: the prompt is 5"),
        ([[2], ["a"]], "prompt 1: the token id at position 0 is 'a'"),
        ([[[2]], [2]], "prompt 0: the token id at position 0"),
        ([b"ab"], "prompt 0: the prompt is b'ab'"),
        ([2, [2]], "the token id at position 1"),
        ([[2], [{"content": "x"}]], "prompt 1: message 0"),
        (np.array([[2], [3]]), r"shape \(2, 1\)"),
    ],
    ids=repr,
)
def test_refuses_prompts(prompts, said):
    model = fake_model(TOKENIZER, lambda ids: 299)
    with pytest.raises(gemmule.ArgumentError, match=said):
        model.generate(prompts)
    assert not model._core.prefilled


def test_refuses_a_long_prompt():
    model = fake_model(TOKENIZER, lambda ids: 299, context=4)
    with pytest.raises(gemmule.ContextError, match="prompt 2: the prompt has 5 tokens; the context holds 4") as caught:
        model.generate([[2], [3], [2] * 5])
    assert caught.value.found == "5"
    assert "Shorten the prompt" in str(caught.value)
    assert not model._core.prefilled


def test_refuses_settings_and_pictures():
    model = fake_model(TOKENIZER, lambda ids: 299)
    with pytest.raises(gemmule.ArgumentError, match=r"^top_p"):
        model.generate([[2], [3]], top_p=2)
    with pytest.raises(gemmule.UnsupportedError, match=r"prompt 1: .*image"):
        model.generate(["a", [{"role": "user", "content": [{"type": "image"}]}]])
    assert not model._core.prefilled


def test_a_stream_is_of_one_prompt():
    model = fake_model(TOKENIZER, lambda ids: 299)
    with pytest.raises(gemmule.ArgumentError, match=r"one prompt.*\n.*generate"):
        model.stream(["a", "b"])


# Ctrl-C


def test_ctrl_c_leaves_the_model_usable():
    model = fake_model(TOKENIZER, lambda ids: 299, fail_at=5)
    with pytest.raises(KeyboardInterrupt):
        model.generate([[2], [2, 3]])
    model._core.fail_at = None
    assert [len(result.tokens) for result in model.generate([[2], [2, 3]], max_tokens=4)] == [4, 4]


def test_ctrl_c_in_the_engine():
    script = (
        "import os, signal, threading, gemmule\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "model = gemmule.load('fairy')\n"
        "want = [each.text for each in model.generate(['A king', 'A fox'], seed=1, max_tokens=20)]\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    while True: model.generate(['Once'] * 9, max_tokens=None, ignore_eos=True)\n"
        "except KeyboardInterrupt:\n"
        "    got = [each.text for each in model.generate(['A king', 'A fox'], seed=1, max_tokens=20)]\n"
        "    print(got == want)\n"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=os.environ)
    assert (child.returncode, child.stdout) == (0, "True\n"), child.stderr
