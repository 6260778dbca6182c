"""What is said of single tokens: the likeliest ones, scores of a text, hidden states."""

import math

import numpy as np
import pytest

import gemmule
from fakes import TOKENIZER, TURN_END, fake_model, says
from gemmule.generation.likeliest import likeliest
from gemmule.reference import Reference
from golden_cases import FIXTURES, FLOAT_FIXTURES, read_case

BOUND = 2e-6  # nats, of LogSumExp
TEXT = "Once upon a time there was a king, and he had a daughter. € <turn|>"


@pytest.fixture(scope="module")
def fairy():
    return gemmule.load("fairy", threads=2)


# The likeliest tokens


def log_probabilities(logits):
    x = logits.astype(np.float64)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


@pytest.mark.parametrize("n", [1, 63, 64, 700, 5000])
@pytest.mark.parametrize("count", [1, 3, 64, 900])
@pytest.mark.parametrize("kind", ["normal", "ties", "forbidden", "alike"])
def test_likeliest(n, count, kind):
    logits = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    if kind == "ties":
        logits = np.round(logits)
    elif kind == "forbidden":
        logits[n // 3 + 1 :] = -np.inf
    elif kind == "alike":
        logits[:] = 2
    order = np.lexsort((np.arange(n), -logits))[:count]
    found = likeliest(logits, count, None)
    assert [each.token for each in found] == order.tolist()
    np.testing.assert_allclose([each.logprob for each in found], log_probabilities(logits)[order], rtol=0, atol=BOUND)
    assert {each.text for each in found} == {""}


def test_scores_are_compared_as_objects(fairy):
    score = fairy.score("Hi")
    assert score == score
    assert score != fairy.score("Hi")


def test_top_logprobs(fairy):
    options = {"max_tokens": 20, "seed": 5}
    result = fairy.generate("Once upon a time", top_logprobs=4, logprobs=True, **options)
    pieces = list(fairy.stream("Once upon a time", top_logprobs=4, **options))
    assert [piece.top_logprobs for piece in pieces] == result.top_logprobs
    assert len(result.top_logprobs) == 20
    ids = fairy.tokenizer.encode("Once upon a time") + result.tokens
    rows = fairy.logits(ids)[-21:-1]
    for row, top, token, logprob in zip(rows, result.top_logprobs, result.tokens, result.logprobs, strict=True):
        own = log_probabilities(row)
        assert [each.token for each in top] == np.lexsort((np.arange(4096), -row))[:4].tolist()
        assert [each.logprob for each in top] == pytest.approx(own[[each.token for each in top]].tolist(), rel=1e-4)
        for each in top:
            assert each.text == fairy.tokenizer.decode([each.token])
            assert each.token != token or each.logprob == pytest.approx(logprob, rel=1e-14)
    assert fairy.generate("Once upon a time", **options).top_logprobs is None
    assert next(fairy.stream("Once", **options)).top_logprobs is None


def test_texts_of_tokens_that_have_none_of_their_own():
    model = fake_model(TOKENIZER, says([16, TURN_END], prompt_length=1))
    top = model.generate([2], max_tokens=2, temperature=0, top_logprobs=1).top_logprobs
    assert [each.text for (each,) in top] == ["<0x0A>", "<turn|>"]


@pytest.mark.parametrize("wrong", [-1, 1001, 2.0, True, "3"], ids=repr)
def test_refuses_top_logprobs(fairy, wrong):
    with pytest.raises(gemmule.ArgumentError, match="top_logprobs"):
        fairy.generate("A", top_logprobs=wrong)


# Scores


def test_score(fairy):
    score = fairy.score(TEXT)
    ids = fairy.tokenizer.encode(TEXT, parse_special=False)
    assert ids[0] == 2
    assert score.ids.tolist() == ids[1:]
    assert "".join(score.pieces) == TEXT
    assert len(score.pieces) == len(score.logprobs) == len(ids) - 1
    own = [log_probabilities(row)[next] for row, next in zip(fairy.logits(ids), ids[1:], strict=False)]
    np.testing.assert_allclose(score.logprobs, own, rtol=0, atol=BOUND)
    assert score.sum == score.logprobs.sum()


def test_score_is_the_sum_of_perplexity(fairy):
    score = fairy.score(TEXT)
    measured = gemmule.perplexity(fairy, TEXT, window=len(score.ids) + 1, score="all", progress=False)
    assert measured.tokens == len(score.logprobs)
    assert score.sum == pytest.approx(-measured.mean_nll * measured.tokens, rel=1e-12)


def test_score_of_ids(fairy):
    ids = [5, 300, 301, 302]
    score = fairy.score(ids)
    assert score.ids.tolist() == ids[1:]
    assert score.logprobs.tolist() == fairy._new_decoder().score(np.array(ids, np.int32), 1).tolist()
    assert "".join(score.pieces) == fairy.tokenizer.decode(ids[1:])


def test_score_without_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    score = fake_model(tmp_path, lambda ids: 7).score([3, 7, 8])
    assert score.pieces == ["", ""]
    assert score.logprobs.tolist() == pytest.approx([math.log(0.5), math.log(0.5 / 639)])


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), ([], "empty"), ([2], "one token"), ([2, 4096], "4096"), (5, "expected text")],
    ids=repr,
)
def test_refuses_to_score(fairy, text, said):
    with pytest.raises(gemmule.ArgumentError, match=said):
        fairy.score(text)


def test_refuses_long_texts(fairy):
    for call in (fairy.score, lambda ids: fairy.embed([ids])):
        with pytest.raises(gemmule.ContextError, match="1025 tokens"):
            call([2] * 1025)


# Hidden states


@pytest.mark.parametrize("name", FLOAT_FIXTURES)
def test_embed_is_the_references_hidden_state(name):
    """float32 beside numpy in double, through several chunks and past the sliding window."""
    model = gemmule.load(FIXTURES / name, threads=3, kv="float32")
    reference = Reference(FIXTURES / name)
    texts = [[2, 5, 7], [2], np.arange(100) % 256]
    states = [reference.final_norm(reference.hidden(np.array(ids))[-1]) for ids in texts]
    for pooling, pooled in (
        ("mean", [each.mean(axis=0) for each in states]),
        ("last", [each[-1] for each in states]),
    ):
        found = model.embed(texts, pooling=pooling)
        assert found.dtype == np.float32
        assert found.shape == (3, model._core.hidden_size)
        assert np.abs(found - np.stack(pooled)).max() <= 2e-4  # as for the layers in test_golden


def test_hidden_is_the_golden_one():
    case = read_case("e2b")
    model = gemmule.load(case.folder, kv="float32")
    hidden = model._new_decoder().hidden(case.ids, len(case.ids))
    assert np.abs(hidden - case.hidden()[-1]).max() <= 2e-4


def test_hidden_states_of_the_last_tokens(fairy):
    """`hidden` of a few is the end of `hidden` of all, whatever the chunks."""
    ids = np.arange(150, dtype=np.int32) * 7 % 4096
    every = fairy._new_decoder().hidden(ids, 150)
    for wanted in (1, 22, 64, 149):
        np.testing.assert_array_equal(fairy._new_decoder().hidden(ids, wanted), every[-wanted:])
    by_parts = fairy._new_decoder()
    np.testing.assert_array_equal(np.concatenate([by_parts.hidden(ids[:70], 70), by_parts.hidden(ids[70:], 80)]), every)
    assert by_parts.length == 150


def test_embed_of_texts(fairy):
    texts = ["Once upon a time", "A fox.", "Once upon a time"]
    found = fairy.embed(texts)
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], fairy.embed([fairy.tokenizer.encode("A fox.")])[0])
    assert fairy.embed([]).shape == (0, 256)
    assert not np.array_equal(found, fairy.embed(texts, pooling="last"))


def test_embeddings_do_not_depend_on_threads(fairy):
    np.testing.assert_array_equal(
        gemmule.load("fairy", threads=1).embed([TEXT]), gemmule.load("fairy", threads=3).embed([TEXT])
    )


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ("text", {}, "list of texts"),
        (5, {}, "list of texts"),
        (["a", ""], {}, "text 1: the prompt is empty"),
        (["a", [2, 9999]], {}, "text 1: token id 9999"),
        (["a"], {"pooling": "max"}, "pooling"),
    ],
    ids=repr,
)
def test_refuses_to_embed(fairy, texts, options, said):
    with pytest.raises(gemmule.ArgumentError, match=said):
        fairy.embed(texts, **options)


@pytest.mark.parametrize("wanted", [0, 4])
def test_refuses_hidden_states_of_other_tokens(fairy, wanted):
    with pytest.raises(gemmule.ArgumentError, match=f"results of {wanted} tokens"):
        fairy._new_decoder().hidden(np.array([2, 3, 4], np.int32), wanted)
