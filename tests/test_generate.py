"""Generation around the engine: text of tokens, when it ends, what it counts, what it refuses."""

import json
import math
import random
import shutil

import numpy as np
import pytest

import gemmule
from fakes import TOKENIZER, TURN_END, fake_model, says
from gemmule.checkpoints import checkpoint
from gemmule.text.text_stream import TextStream

PROMPT = [2, 299, 300]  # <bos>ab


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    shutil.copytree(TOKENIZER, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 1}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, TURN_END], "do_sample": False}))
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return gemmule.Tokenizer.from_pretrained(folder)


def speaking(folder, tokens, **options):
    return fake_model(folder, says(tokens, prompt_length=len(PROMPT)), **options)


def plain_ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


# What comes back


def test_result(folder, tokenizer):
    said = plain_ids(tokenizer, "Hello, world")
    result = speaking(folder, said).generate(PROMPT)
    assert result.text == "Hello, world"
    assert result.tokens == [*said, TURN_END]
    assert result.finish_reason == "stop"
    assert result.logprobs is None
    usage = result.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (3, len(said) + 1, 0)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prefill_seconds > 0
    assert usage.tokens_per_second > 0


def test_reads_the_prompt_once_and_then_each_token(folder, tokenizer):
    said = plain_ids(tokenizer, "abc")
    model = speaking(folder, said)
    model.generate(PROMPT)
    assert model._core.prefilled == [PROMPT, *([token] for token in said)]


def test_logprobs(folder, tokenizer):
    """Of the model's own distribution: the fake one gives its choice one half, whatever the temperature."""
    result = speaking(folder, [299, 300, 301]).generate(PROMPT, logprobs=True)
    assert result.logprobs == pytest.approx([math.log(0.5)] * 4)


def test_a_text_prompt_gets_bos(folder, tokenizer):
    model = fake_model(folder, lambda ids: TURN_END)
    model.generate("ab")
    assert model._core.prefilled[0] == tokenizer.encode("ab")
    assert model._core.prefilled[0][0] == 2


def test_messages_are_rendered_once(folder, tokenizer):
    model = fake_model(folder, lambda ids: TURN_END)
    messages = [{"role": "user", "content": "<turn|>Hi"}]
    model.generate(messages)
    assert model._core.prefilled[0] == tokenizer.encode_messages(messages)


def test_without_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"eos_token_id": 7}}))
    model = fake_model(tmp_path, says([5, 6, 7], prompt_length=3))
    assert model.tokenizer is None
    result = model.generate(PROMPT, temperature=0)
    assert (result.text, result.tokens, result.finish_reason) == ("", [5, 6, 7], "stop")
    for call in (
        lambda: model.generate("text"),
        lambda: model.generate([{"role": "user", "content": "Hi"}]),
        lambda: model.generate(PROMPT, stop="x"),
        model.chat,
        lambda: gemmule.perplexity(model, "text", window=8),
    ):
        with pytest.raises(gemmule.UnsupportedError, match=r"tokenizer\.json"):
            call()


# Where it ends


def test_max_tokens(folder, tokenizer):
    result = speaking(folder, [299, 300, 301]).generate(PROMPT, max_tokens=2)
    assert (result.text, result.finish_reason, len(result.tokens)) == ("ab", "length", 2)


def test_default_of_max_tokens(folder):
    assert len(fake_model(folder, lambda ids: 299, context=1000).generate(PROMPT).tokens) == 512


def test_full_context(folder):
    """The last token fits into the answer, not into the cache."""
    result = fake_model(folder, lambda ids: 299, context=8).generate(PROMPT, max_tokens=None)
    assert (result.finish_reason, len(result.tokens)) == ("length", 6)
    full = fake_model(folder, lambda ids: 299, context=3).generate(PROMPT, max_tokens=None)
    assert (full.finish_reason, len(full.tokens)) == ("length", 1)


@pytest.mark.parametrize("ignore", [False, True])
def test_ignore_eos(folder, tokenizer, ignore):
    said = [*plain_ids(tokenizer, "ab"), TURN_END, *plain_ids(tokenizer, "cd")]
    result = speaking(folder, said).generate(PROMPT, max_tokens=5, ignore_eos=ignore)
    assert result.text == ("abcd" if ignore else "ab")
    assert result.finish_reason == ("length" if ignore else "stop")


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("lo", "Hel"),
        (["zzz", "world"], "Hello, "),
        (["world", "lo, w"], "Hel"),
        ("d", "Hello, worl"),
        ("xyz", "Hello, world"),
        ("world!", "Hello, world"),
        ((), "Hello, world"),
    ],
)
def test_stop_strings(folder, tokenizer, stop, text):
    said = plain_ids(tokenizer, "Hello, world")
    result = speaking(folder, said).generate(PROMPT, stop=stop)
    assert (result.text, result.finish_reason) == (text, "stop")
    assert (len(result.tokens) <= len(said)) == (text != "Hello, world")


def test_suppressed_tokens_are_never_said(folder, tokenizer, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text(json.dumps({"suppress_tokens": [299, 10**6], "eos_token_id": 1}))
    result = fake_model(tmp_path, lambda ids: 299).generate(PROMPT, max_tokens=20, temperature=0)
    assert 299 not in result.tokens


# Streams


def test_stream_is_one_piece_a_token(folder, tokenizer):
    said = plain_ids(tokenizer, "€ Hello, wörld 🙂 €")
    model = speaking(folder, said)
    pieces = list(model.stream(PROMPT))
    result = model.generate(PROMPT, logprobs=True)
    assert [piece.token for piece in pieces] == result.tokens
    assert "".join(piece.text for piece in pieces) == result.text == "€ Hello, wörld 🙂 €"
    assert [piece.logprob for piece in pieces] == result.logprobs
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["stop"]
    assert not any("\N{REPLACEMENT CHARACTER}" in piece.text for piece in pieces)


def test_leaving_a_stream_stops_the_work(folder):
    model = fake_model(folder, lambda ids: 299)
    for number, _ in enumerate(model.stream(PROMPT)):
        if number == 2:
            break
    assert len(model._core.prefilled) == 3  # the prompt and two tokens; the third was not read
    stream = model.stream(PROMPT)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_text_of_any_tokens_is_that_of_the_tokenizer(tokenizer):
    """Random tokens, most of them bytes and special ones: whole characters only, and nothing else than decode gives."""
    random_numbers = random.Random(1)
    euro = plain_ids(tokenizer, "€")
    for _ in range(300):
        choices = [random_numbers.randrange(700), *euro, TURN_END, 299, 6 + random_numbers.randrange(256)]
        tokens = [random_numbers.choice(choices) for _ in range(random_numbers.randrange(30))]
        stream = TextStream(tokenizer)
        pieces = [stream.push(token) for token in tokens]
        assert "".join(pieces) + stream.finish() == tokenizer.decode(tokens, skip_special_tokens=True), tokens


def test_stop_strings_in_any_text(tokenizer):
    random_numbers = random.Random(2)
    for _ in range(500):
        text = "".join(random_numbers.choice("aab€ ") for _ in range(20))
        stop = ["".join(random_numbers.choice("aab€ ") for _ in range(random_numbers.randrange(1, 5)))]
        stream = TextStream(tokenizer, stop)
        # A token of a or b alone, so that a match is never completed inside of a token.
        tokens = [id for character in text for id in plain_ids(tokenizer, character)]
        joined = "".join(stream.push(token) for token in tokens) + stream.finish()
        assert joined == text.partition(stop[0])[0]
        assert stream.stopped == (stop[0] in text)


# Settings


def read_defaults(tmp_path, generation, config=None):
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    (tmp_path / "config.json").write_text(json.dumps(config or {}))
    return checkpoint.GenerationConfig.read(tmp_path)


def test_defaults_are_the_checkpoint_s(tmp_path):
    said = {"temperature": 0.7, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.1}
    defaults = read_defaults(tmp_path, {**said, "do_sample": True, "eos_token_id": [1, 9]}, {"eos_token_id": 4})
    assert {name: getattr(defaults, name) for name in said} == said
    assert defaults.end_tokens == {1, 9}


def test_defaults_without_any_are_plain_sampling(tmp_path):
    defaults = read_defaults(tmp_path, None, {"text_config": {"eos_token_id": 4}})
    assert (defaults.temperature, defaults.top_k, defaults.top_p) == (1.0, 0, 1.0)
    assert defaults.end_tokens == {4}


def test_no_sampling_is_greedy(tmp_path):
    assert read_defaults(tmp_path, {"do_sample": False, "temperature": 0.7}).temperature == 0


@pytest.mark.parametrize(
    "wrong", [{"temperature": "hot"}, {"top_k": 1.5}, {"top_p": 2}, {"eos_token_id": ["x"]}, {"eos_token_id": -1}]
)
def test_wrong_defaults_name_the_file(tmp_path, wrong):
    with pytest.raises(gemmule.FormatError, match=r"generation_config\.json"):
        read_defaults(tmp_path, wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": -0.1},
        {"temperature": "1"},
        {"temperature": True},
        {"top_k": -1},
        {"top_k": 1.5},
        {"top_p": 0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"min_p": -0.1},
        {"min_p": math.nan},
        {"repetition_penalty": 0},
        {"repetition_penalty": math.nan},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 1.0},
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": 2.5},
        {"stop": ""},
        {"stop": ["a", ""]},
        {"stop": [1]},
    ],
    ids=repr,
)
def test_refuses_settings(folder, wrong):
    model = fake_model(folder, lambda ids: 299)
    for call in (model.generate, model.stream):  # a stream refuses before it is asked for a piece
        with pytest.raises(gemmule.ArgumentError, match=next(iter(wrong)).split("_")[0]):
            call(PROMPT, **wrong)
    assert not model._core.prefilled


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array, np.int16, np.uint64, lambda ids: list(np.int64(ids))])
def test_ids_of_any_kind(folder, kind):
    prompt = np.array(PROMPT, kind) if isinstance(kind, type) and issubclass(kind, np.integer) else kind(PROMPT)
    model = fake_model(folder, lambda ids: TURN_END)
    model.generate(prompt)
    assert model._core.prefilled == [PROMPT]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "empty"),
        ([], "empty"),
        (np.array([], int), "empty"),
        ([2, 640], "640 at position 1 is outside of 0..639"),
        ([2, -1], "-1 at position 1"),
        ([2, 10**30], "position 1"),
        (np.array([2**64 - 1], np.uint64), "position 0"),
        ([True], "expected an integer"),
        ([2.0], "expected an integer"),
        (np.array([2.0]), "float64"),
        (np.array([[2]]), r"shape \(1, 1\)"),
        (np.array([True]), "bool"),
        (5, "expected text, messages, or token ids"),
        (b"Hi", "expected text, messages, or token ids"),
        (None, "expected text, messages, or token ids"),
        ("a\udfff", "half of a character"),
    ],
)
def test_refuses_prompts(folder, prompt, said):
    model = fake_model(folder, lambda ids: 299)
    with pytest.raises(gemmule.ArgumentError, match=said):
        model.generate(prompt)
    assert not model._core.prefilled


def test_refuses_a_long_prompt(folder):
    model = fake_model(folder, lambda ids: 299, context=4)
    for call in (model.generate, model.stream, model.logits):
        with pytest.raises(gemmule.ContextError, match="5 tokens; the context holds 4"):
            call([2, 299, 299, 299, 299])


def test_refuses_pictures(folder):
    with pytest.raises(gemmule.UnsupportedError, match="image"):
        fake_model(folder, lambda ids: 299).generate([{"role": "user", "content": [{"type": "image"}]}])


def test_ctrl_c_leaves_the_model_usable(folder):
    model = fake_model(folder, lambda ids: 299, fail_at=5)
    with pytest.raises(KeyboardInterrupt):
        model.generate(PROMPT)
    model._core.fail_at = None
    assert len(model.generate(PROMPT, max_tokens=4).tokens) == 4
