"""Perplexity: which tokens are scored in which window, and the figures made of them."""

import json
import math
import shutil

import numpy as np
import pytest

import gemmule
from fakes import TOKENIZER, FakeDecoder, fake_model

TEXT = "Hello, world. Once upon a time there was a king who had a daughter."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    shutil.copytree(TOKENIZER, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def model(folder):
    """Its likeliest id depends on the last three, so that windows matter."""
    return fake_model(folder, lambda ids: (17 * ids[-1] + sum(ids[-3:])) % 640)


def nll(model, window, first):
    """(N,) nats of window[first:]."""
    return -FakeDecoder(model._core).score(np.array(window, np.int32), first)


def check(found, expected):
    assert found.tokens == len(expected)
    assert found.mean_nll == pytest.approx(expected.mean())
    assert found.perplexity == pytest.approx(math.exp(expected.mean()))
    assert found.stderr == pytest.approx(math.sqrt(expected.var() / (len(expected) - 1)))


@pytest.mark.parametrize("window", [8, 9])
def test_second_half(model, window):
    ids = model.tokenizer.encode(TEXT)
    expected = []
    for begin in range(0, len(ids) - window + 1, window):
        expected.append(nll(model, [2, *ids[begin + 1 : begin + window]], window // 2 + 1))
    check(gemmule.perplexity(model, TEXT, window=window), np.concatenate(expected))


def test_512_tokens_score_255(model):
    model._core.context = 512
    assert gemmule.perplexity(model, [2] * 1100).tokens == 2 * 255


@pytest.mark.parametrize(("window", "stride"), [(8, None), (8, 1), (8, 7), (16, 5), (30, 29)])
def test_all(model, window, stride):
    ids = model.tokenizer.encode(TEXT)
    expected, done, begin = [], 1, 0
    while done < len(ids):
        end = min(begin + window, len(ids))
        expected.append(nll(model, [2, *ids[begin + 1 : end]], done - begin))
        done, begin = end, begin + (stride or window // 2)
    found = gemmule.perplexity(model, TEXT, window=window, score="all", stride=stride)
    check(found, np.concatenate(expected))
    assert found.tokens == len(ids) - 1
    text_bytes = len(TEXT.encode())
    assert found.bits_per_byte == pytest.approx(np.concatenate(expected).sum() / math.log(2) / text_bytes)


def test_the_first_windows(model):
    ids = model.tokenizer.encode(TEXT, parse_special=False)
    first = nll(model, ids[:8], 5)
    check(gemmule.perplexity(model, TEXT, window=8, windows=1), first)
    check(gemmule.perplexity(model, TEXT, window=8, windows=2), np.concatenate([first, nll(model, [2, *ids[9:16]], 5)]))
    assert gemmule.perplexity(model, TEXT, window=8, windows=999) == gemmule.perplexity(model, TEXT, window=8)
    found = gemmule.perplexity(model, TEXT, window=8, score="all", stride=3, windows=2)
    check(found, np.concatenate([nll(model, ids[:8], 1), nll(model, [2, *ids[4:11]], 5)]))


def test_ids_are_used_as_they_are(model):
    ids = list(range(300, 332))
    check(gemmule.perplexity(model, ids, window=16), np.concatenate([nll(model, ids[:16], 9), nll(model, ids[16:], 9)]))
    check(gemmule.perplexity(model, ids, window=32, score="all"), nll(model, ids, 1))


def test_files(model, tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes(TEXT.encode())
    expected = gemmule.perplexity(model, TEXT, window=8)
    assert gemmule.perplexity(model, file, window=8) == expected
    assert gemmule.perplexity(model, str(file), window=8) == expected
    file.write_bytes(b"abc\xff")
    with pytest.raises(gemmule.FormatError, match="not UTF-8 at byte 3"):
        gemmule.perplexity(model, file, window=8)
    with pytest.raises(gemmule.MissingFileError):
        gemmule.perplexity(model, tmp_path / "none.txt", window=8)


def test_a_text_is_not_parsed(model):
    text = "<turn|>" * 8
    ids = model.tokenizer.encode(text, parse_special=False)
    assert gemmule.perplexity(model, text, window=8, score="all").tokens == len(ids) - 1


def test_a_long_text_is_no_path(model):
    assert gemmule.perplexity(model, "word " * 2000, window=64).tokens > 100


def test_one_token_has_no_spread(model):
    found = gemmule.perplexity(model, [2, 299, 300], window=3)
    assert found.tokens == 1
    assert math.isnan(found.stderr)


def test_without_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    model = fake_model(tmp_path, lambda ids: 7)
    assert gemmule.perplexity(model, [2, 299, 300, 7], window=4).bits_per_byte is None


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("Hi", {}, "at least one window of 128"),
        ([2] * 127, {}, "127 tokens"),
        ([2] * 127, {"score": "all"}, "127 tokens"),
        ("", {"window": 8}, "at least one window"),
        ([2] * 600, {"window": 2}, "window"),
        ([2] * 600, {"window": 1, "score": "all"}, "window"),
        ([2] * 600, {"window": 257}, "the context holds 256"),
        ([2] * 600, {"score": "first-half"}, "second-half"),
        ([2] * 600, {"stride": 4}, "stride"),
        ([2] * 600, {"windows": 0}, "windows"),
        ([2] * 600, {"score": "all", "stride": 0}, "stride"),
        ([2] * 600, {"score": "all", "stride": 128}, "stride"),
        ([2] * 600 + [640], {}, "640 at position 600"),
    ],
)
def test_refuses(model, text, options, said):
    with pytest.raises(gemmule.ArgumentError, match=said) as caught:
        gemmule.perplexity(model, text, **{"window": 128, **options})
    assert isinstance(caught.value, ValueError)


def test_shows_nothing_where_nobody_looks(model, capsys):
    gemmule.perplexity(model, TEXT, window=8)
    assert capsys.readouterr() == ("", "")
