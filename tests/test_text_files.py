"""A tokenizer.json that lies about itself, or asks for another tokenizer than Gemma's, is refused by name."""

import json
import random
import signal
import threading
import time

import pytest

import gemmule
from gemmule._core import Tokenizer
from hostile import mutate
from text_cases import added, fixture, write


def change(path, value):
    """A function that sets `path` of a file's content, or takes it away."""

    def apply(content):
        *above, last = path
        for key in above:
            content = content[key]
        if value is REMOVED:
            del content[last]
        elif last == "+":
            content.append(value)
        else:
            content[last] = value

    return apply


REMOVED = object()
VOCAB, MERGES, ADDED = ("model", "vocab"), ("model", "merges"), ("added_tokens",)

BROKEN = {
    "no model": (("model",), REMOVED, "model"),
    "a model that is a list": (("model",), [], "model"),
    "no vocabulary": (VOCAB, REMOVED, "vocab"),
    "a vocabulary that is a list": (VOCAB, [["a", 0]], "vocab"),
    "an id that is a string": ((*VOCAB, "zz"), "640", "an integer"),
    "an id that is a fraction": ((*VOCAB, "zz"), 640.0, "an integer"),
    "an id below zero": ((*VOCAB, "zz"), -1, '"zz".*out of range'),
    "an id beyond reason": ((*VOCAB, "zz"), 2**22, '"zz".*out of range'),
    "an id of 64 bits": ((*VOCAB, "zz"), 2**63 - 1, '"zz".*out of range'),
    "an id taken": ((*VOCAB, "zz"), 7, "same id.*<0x01>"),
    "an id left out": ((*VOCAB, "zz"), 641, "left out.*640"),
    "an empty token": ((*VOCAB, ""), 640, "no text.*640"),
    "no merges": (MERGES, REMOVED, "merges"),
    "merges that are an object": (MERGES, {"a": "b"}, "merges"),
    "a merge of one": ((*MERGES, "+"), ["a"], "fewer than two"),
    "a merge of none": ((*MERGES, "+"), [], "fewer than two"),
    "a merge of three": ((*MERGES, "+"), ["a", "b", "c"], "more than two"),
    "a merge of numbers": ((*MERGES, "+"), [1, 2], "a string"),
    "a merge that is a number": ((*MERGES, "+"), 7, "an array"),
    "a merge without a space": ((*MERGES, "+"), "ab", "not a merge"),
    "a merge with two spaces": ((*MERGES, "+"), "a b c", "not a merge"),
    "a merge of an unknown token": ((*MERGES, 3), ["a", "zzz"], 'merge 3.*"zzz"'),
    "a merge of nothing": ((*MERGES, "+"), ["", "a"], 'merge 286.*""'),
    "a merge twice": ((*MERGES, "+"), ["\N{LOWER ONE EIGHTH BLOCK}", "t"], "twice"),
    "added tokens that are an object": (ADDED, {}, "added_tokens"),
    "an added token that is a string": ((*ADDED, "+"), "zz", r"added_tokens\[25\]"),
    "an added token without id": ((*ADDED, "+"), {"content": "zz"}, r"added_tokens\[25\].*id"),
    "an added token without text": ((*ADDED, "+"), {"id": 640}, r"added_tokens\[25\].*content"),
    "an added token with another id": ((*ADDED, "+"), added(640, "a"), "two ids"),
    "an added token with an id taken": ((*ADDED, "+"), added(7, "zz"), "same id"),
    "an added token behind a gap": ((*ADDED, "+"), added(700, "zz"), "left out.*640"),
    "an added token without letters": ((*ADDED, "+"), added(640, ""), "no text"),
    "a special that is a number": ((*ADDED, "+"), added(640, "zz", special=1), "true or false"),
}

UNSUPPORTED = {
    "another model": (("model", "type"), "Unigram", "Unigram"),
    "no type of model": (("model", "type"), REMOVED, "model.type"),
    "dropout": (("model", "dropout"), 0.1, "dropout"),
    "a prefix for parts of words": (("model", "continuing_subword_prefix"), "##", "continuing_subword_prefix"),
    "a suffix for words": (("model", "end_of_word_suffix"), "</w>", "end_of_word_suffix"),
    "no bytes for unknown characters": (("model", "byte_fallback"), False, "byte_fallback"),
    "whole words first": (("model", "ignore_merges"), True, "ignore_merges"),
    "no normalizer": (("normalizer",), None, "normalizer"),
    "another normalizer": (("normalizer",), {"type": "NFKC"}, "normalizer.*NFKC"),
    "another replacement": (("normalizer", "content"), "_", "normalizer.*Replace"),
    "several normalizers": (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "NFC"}]}, "Sequence.*NFC"),
    "another pre-tokenizer": (("pre_tokenizer",), {"type": "Whitespace"}, "pre_tokenizer.*Whitespace"),
    "no decoder": (("decoder",), REMOVED, "decoder.*no such key"),
    "another decoder": (("decoder", "decoders", "+"), {"type": "Strip", "content": " ", "start": 1}, "decoder.*Strip"),
    "a token that is a whole word": ((*ADDED, "+"), added(640, "zz", single_word=True), "single_word"),
    "a token that strips": ((*ADDED, "+"), added(640, "zz", lstrip=True), "lstrip"),
    "a token of normalized text": ((*ADDED, "+"), added(640, "zz", normalized=True), "normalized"),
    "an endless added token": ((*ADDED, "+"), added(640, "z" * 1000), "at most 512 bytes"),
    "a byte left out": ((*VOCAB,), {f"<0x{byte:02X}>": byte for byte in range(255)}, "<0xFF>"),
}


@pytest.mark.parametrize(("path", "value", "match"), BROKEN.values(), ids=BROKEN.keys())
def test_broken(path, value, match, tmp_path):
    content = fixture()
    change(path, value)(content)
    with pytest.raises(gemmule.FormatError, match=match) as error:
        Tokenizer.open(str(write(tmp_path, content)))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(("path", "value", "match"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_unsupported(path, value, match, tmp_path):
    content = fixture()
    if path == VOCAB:
        content |= {"added_tokens": []}
        content["model"]["merges"] = []
    change(path, value)(content)
    with pytest.raises(gemmule.UnsupportedError, match=match) as error:
        Tokenizer.open(str(write(tmp_path, content)))
    assert str(tmp_path) in str(error.value)
    assert error.value.remedy


def test_a_merge_of_bytes(tmp_path):
    content = fixture()
    content["model"]["vocab"]["<0xE2><0x96>"] = 640
    content["model"]["merges"].append(["<0xE2>", "<0x96>"])
    with pytest.raises(gemmule.UnsupportedError, match=r"merge 286.*byte tokens.*<0xE2>"):
        Tokenizer.open(str(write(tmp_path, content)))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"vocab": {', '"vocab": {"a": 640, ', "same text"),
        ('"type": "BPE"', '"type": "BPE", "type": "BPE"', "a key stands twice.*type"),
        ('"merges": [', '"merges": [], "merges": [', "a key stands twice.*merges"),
        ('"model": {', '"model": {}, "model": {', "a key stands twice.*model"),
        ('"merges": [', '"merges": [,', "not JSON"),
        ('"<pad>": 0', '"<pad>" 0', "a colon"),
    ],
)
def test_broken_json(old, new, match, tmp_path):
    text = json.dumps(fixture(), ensure_ascii=False)
    assert old in text
    with pytest.raises(gemmule.FormatError, match=match):
        Tokenizer.open(str(write(tmp_path, text.replace(old, new, 1))))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty"),
        ("null", "an object"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "LFS"),
        ("<!DOCTYPE html><html></html>", "HTML"),
    ],
)
def test_another_file(text, match, tmp_path):
    with pytest.raises(gemmule.FormatError, match=match):
        Tokenizer.open(str(write(tmp_path, text)))


def test_random_damage_is_read_or_refused(tmp_path):
    rng = random.Random(7)
    text = json.dumps(fixture(), ensure_ascii=False).encode()
    read = 0
    for _ in range(500):
        file = tmp_path / "tokenizer.json"
        file.write_bytes(mutate(text, rng, len(text)))
        try:
            tokenizer = Tokenizer.open(str(file))
        except (gemmule.FormatError, gemmule.UnsupportedError):
            continue
        read += 1
        tokenizer.encode("Some text, <bos>\n and é more.".encode(), True)
    assert 0 < read < 500


def test_a_long_text_can_be_interrupted():
    tokenizer = gemmule.Tokenizer.from_pretrained("fairy")
    text = "The old witch said no more. " * 100_000
    start = time.process_time()
    tokenizer.encode(text)
    whole = 15 * (time.process_time() - start)
    long = text * 15
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    start = time.process_time()
    timer.start()
    with pytest.raises(KeyboardInterrupt):  # it would come after the last token too
        tokenizer.encode(long)
    assert time.process_time() - start < whole / 2


def test_threads_encode_at_once():
    """Without Python's lock: the other thread goes on while one encodes."""
    tokenizer = gemmule.Tokenizer.from_pretrained("fairy")
    text = "The old witch said no more. " * 300_000
    worker = threading.Thread(target=tokenizer.encode, args=[text])
    worker.start()
    steps = 0
    while worker.is_alive():
        steps += 1
        time.sleep(0.001)
    assert steps > 50
