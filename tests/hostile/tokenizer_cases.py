"""Tokenizers that lie: ids, byte tokens, merges, types, steps that are not Gemma's; and tokenizer_config.json."""

import json
from collections.abc import Iterator
from pathlib import Path

import gemmule
from fakes import TOKENIZER
from gemmule.errors import FormatError, UnsupportedError
from hostile.case import Case
from text_cases import added, fixture, write

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"


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
    "an id that is true": ((*VOCAB, "zz"), True, "an integer"),
    "an id that is null": ((*VOCAB, "zz"), None, "an integer"),
    "an id of twenty digits": ((*VOCAB, "zz"), 10**19, "an integer"),
    "the least id": ((*VOCAB, "zz"), -(2**63), '"zz".*out of range'),
    "an id of a million": ((*VOCAB, "zz"), 10**6, "left out.*640"),
    "the space mark twice, as a merge": ((*MERGES, 0), ["\u2581", "\u2581\u2581\u2581\u2581x"], "merge 0"),
    "a merge of null": ((*MERGES, "+"), None, "an array"),
    "a merge of an object": ((*MERGES, "+"), {"a": "b"}, "an array"),
    "a merge of lists": ((*MERGES, "+"), [["a"], ["b"]], "a string"),
    "an empty merge": ((*MERGES, "+"), "", "not a merge"),
    "a merge of a space": ((*MERGES, "+"), " ", 'merge 286.*""'),
    "a merge of a control character": ((*MERGES, "+"), ["\x1b[31m", "a"], r"merge 286.*\\x1b"),
    "an added token of null": ((*ADDED, "+"), None, r"added_tokens\[25\]"),
    "an added token with an id below zero": ((*ADDED, "+"), added(-1, "zz"), "out of range"),
    "an added token with an id beyond reason": ((*ADDED, "+"), added(2**40, "zz"), "out of range"),
    "an added token with an id of a fraction": ((*ADDED, "+"), added(640.5, "zz"), "an integer"),
    "an added token with a text of a list": ((*ADDED, "+"), {"id": 640, "content": ["zz"]}, "a string"),
    "an added token twice": (ADDED, [added(640, "zz"), added(641, "zz")], "two ids"),
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
    "no bytes at all": ((*VOCAB,), {"a": 0}, "<0x00>"),
    "bytes in small letters": ((*VOCAB,), {f"<0x{byte:02x}>": byte for byte in range(256)}, "<0x0A>"),
    "a byte too many digits": ((*VOCAB,), {f"<0x{byte:03X}>": byte for byte in range(256)}, "<0x00>"),
    "a decoder of null": (("decoder",), None, "decoder"),
    "a decoder of brackets": (("decoder",), [[[[]]]], "decoder"),
    "a model without type": (("model", "type"), None, "model.type"),
    "dropout of one": (("model", "dropout"), 1, "dropout"),
    "a byte left out": ((*VOCAB,), {f"<0x{byte:02X}>": byte for byte in range(255)}, "<0xFF>"),
}


# The text of the file: what stands for what, and what the message says.
REPLACED = [
    ('"vocab": {', '"vocab": {"a": 640, ', "same text"),
    ('"type": "BPE"', '"type": "BPE", "type": "BPE"', "a key stands twice.*type"),
    ('"merges": [', '"merges": [], "merges": [', "a key stands twice.*merges"),
    ('"model": {', '"model": {}, "model": {', "a key stands twice.*model"),
    ('"merges": [', '"merges": [,', "not JSON"),
    ('"<pad>": 0', '"<pad>" 0', "a colon"),
    ('"<pad>": 0', '"<pad>": NaN', "not JSON"),
    ('"<pad>": 0', '"<pad>": 1e999', "out of range|an integer"),
    ('"<pad>": 0', '"\\ud800": 0', "lone surrogate"),
    ('"<pad>": 0', '"<pad>": ' + "[" * 100_000, "an integer"),
    ('"merges": [', '"merges": ' + "[" * 100_000, "a string|nested too deeply"),
    ('"version": "1.0"', '"version": ' + "[" * 100_000, "nested too deeply"),
    ('"version": "1.0"', '"version": [' + "0," * 400_000 + "0]", "too many JSON values"),
]
TEXTS = {
    "nothing": ("", "empty"),
    "null": ("null", "an object"),
    "a list": ("[]", "an object"),
    "a Git LFS pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "LFS"),
    "an HTML page": ("<!DOCTYPE html><html></html>", "HTML"),
    "a model alone": ('{"model": {}}', "no such key|vocab|type"),
    "43 bytes that ask for a million tokens": ('{"model":{"vocab":{"a":1048575},"merges":[]}}', "type"),
    "43 bytes that ask for too many": ('{"model":{"vocab":{"a":4194303},"merges":[]}}', "out of range"),
    "values without end, key by key": (
        "{" + ",".join(f'"{i}":[{"0," * 30_000}0]' for i in range(20)) + "}",
        "too many JSON values",
    ),
}

# Of tokenizer_config.json.
CONFIG_TEXTS = {
    "NaN in the config": ('{"model_max_length": NaN}', "not JSON"),
    "half a character as a token": ('{"bos_token": "\\ud800"}', "lone surrogate"),
    "a list as config": ("[]", "expected a JSON object"),
    "a token twice": ('{"bos_token": "<bos>", "bos_token": "<eos>"}', "twice"),
    "brackets alone": ("[" * 1_000_000, "nested too deeply"),
    "a template that is a number": ('{"chat_template": 7}', "chat_template: expected a string"),
    "a template in a list that is a number": ('{"chat_template": [{"name": "default", "template": 7}]}', "a string"),
    "20 MB of config": (" " * 20_000_000, "longer than any of its kind"),
    "a million numbers": ('{"a": [' + "0," * 1_000_000 + "0]}", "too many JSON values"),
}


def write_changed(folder: Path, path: tuple, value: object) -> Path:
    content = fixture()
    if path == VOCAB:
        content |= {"added_tokens": []}
        content["model"]["merges"] = []
    change(path, value)(content)
    write(folder, content)
    return folder


def write_bytes_merged(folder: Path) -> Path:
    content = fixture()
    content["model"]["vocab"]["<0xE2><0x96>"] = 640
    content["model"]["merges"].append(["<0xE2>", "<0x96>"])
    write(folder, content)
    return folder


def write_text(folder: Path, text: str) -> Path:
    write(folder, text)
    return folder


def write_replaced(folder: Path, old: str, new: str) -> Path:
    text = json.dumps(fixture(), ensure_ascii=False)
    assert old in text
    return write_text(folder, text.replace(old, new, 1))


def write_config(folder: Path, text: str) -> Path:
    (folder / FILE).write_bytes((TOKENIZER / FILE).read_bytes())
    (folder / CONFIG).write_text(text)
    return folder


def cases() -> Iterator[Case]:
    def case(name: str, write, match: str, error=FormatError, file: str = FILE) -> Case:
        return Case(name, write, match, error=error, file=file, open=gemmule.Tokenizer.from_pretrained)

    for table, error in ((BROKEN, FormatError), (UNSUPPORTED, UnsupportedError)):
        for name, (path, value, match) in table.items():
            yield case(
                name, lambda folder, path=path, value=value: write_changed(folder, path, value), match, error=error
            )
    yield case("a merge of bytes", write_bytes_merged, "merge 286.*byte tokens.*<0xE2>", error=UnsupportedError)
    for number, (old, new, match) in enumerate(REPLACED):
        yield case(
            f"text {number}: {new:.30}", lambda folder, old=old, new=new: write_replaced(folder, old, new), match
        )
    for name, (text, match) in TEXTS.items():
        error = UnsupportedError if "type" in match else FormatError
        yield case(name, lambda folder, text=text: write_text(folder, text), match, error=error)
    for name, (text, match) in CONFIG_TEXTS.items():
        yield case(name, lambda folder, text=text: write_config(folder, text), match, file=CONFIG)
