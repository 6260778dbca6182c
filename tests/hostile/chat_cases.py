"""Saved chats that lie: with checksums that are right, so that every other check has to hold by itself."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import gemmule
from chat_models import chat_model
from gemmule.errors import ArgumentError, ContextError, FormatError, GemmuleError
from hostile.case import Case

FILE = "fox.chat"
FIRST_LINE = 93  # bytes

# Words: what becomes of them, and what the message says.
WORDS: dict[str, tuple[Callable[[dict], object], str]] = {
    "no parts": (lambda words: words.update(parts=[]), "no ids"),
    "parts that are a number": (lambda words: words.update(parts=7), "not of a chat"),
    "parts that are null": (lambda words: words.update(parts=None), "not of a chat"),
    "a part that is a list": (lambda words: words["parts"].append([]), "not of a chat"),
    "a part of 2^62 bytes": (lambda words: words["parts"][1].update(bytes=1 << 62), "another length"),
    "a part of 10^300 bytes": (lambda words: words["parts"][1].update(bytes=10**300), "another length"),
    "a part of -1 bytes": (lambda words: words["parts"][1].update(bytes=-1), "not of a chat.*bytes"),
    "a part of half a byte": (lambda words: words["parts"][1].update(bytes=0.5), "not of a chat.*bytes"),
    "a part of true bytes": (lambda words: words["parts"][1].update(bytes=True), "not of a chat.*bytes"),
    "bytes that another part has": (lambda words: swap_bytes(words["parts"]), "parts that are not this model's"),
    "parts in another order": (lambda words: words["parts"].append(words["parts"].pop(1)), "not this model's"),
    "a part twice": (lambda words: words["parts"].append(words["parts"][-1] | {"bytes": 0}), "not this model's"),
    "a layer of another number": (lambda words: words["parts"][1].update(layer=1), "not this model's"),
    "a layer beyond all": (lambda words: words["parts"][1].update(layer=1 << 80), "not this model's"),
    "a layer below zero": (lambda words: words["parts"][1].update(layer=-1), "not of a chat.*layer"),
    "ids of a layer": (lambda words: words["parts"][0].update(layer=0), "not this model's"),
    "a state of no layer": (lambda words: words["parts"][1].pop("layer"), "not this model's"),
    "another encoding": (lambda words: words["parts"][1].update(encoding="f32"), "not this model's"),
    "an encoding that is a number": (lambda words: words["parts"][1].update(encoding=8), "not of a chat"),
    "a shape of another size": (lambda words: words["parts"][1]["shape"].append(1), "not this model's"),
    "a shape in words": (lambda words: words["parts"][1].update(shape="abc"), "not of a chat"),
    "ids in two dimensions": (lambda words: words["parts"][0]["shape"].append(1), "no ids"),
    "ids of no dimension": (lambda words: words["parts"][0].update(shape=[]), "no ids"),
    "one token": (lambda words: words["parts"][0].update(shape=[1]), "not this model's"),
    "another checksum": (lambda words: words["parts"][0].update(sha256="0" * 64), "checksum differs"),
    "a checksum of a layer": (lambda words: words["parts"][2].update(sha256="x"), "checksum differs"),
    "a checksum that is a number": (lambda words: words["parts"][1].update(sha256=0), "not of a chat"),
    "no model": (lambda words: words.pop("model"), "not of a chat.*model"),
    "a model that is a string": (lambda words: words.update(model="x"), "not of a chat"),
    "a model without its kv": (lambda words: words["model"].pop("kv"), "not of a chat.*kv"),
    "a name that is a list": (lambda words: words["model"].update(name=[]), "not of a chat"),
    "messages of another kind": (lambda words: words["messages"].append({"role": 7}), "not of a chat"),
    "a message of null": (lambda words: words["messages"].append(None), "not of a chat"),
    "a message without a role": (lambda words: words["messages"].append({"content": "\x1b[2J"}), "not of a chat"),
    "messages that are an object": (lambda words: words.update(messages={}), "not of a chat"),
    "messages that are true": (lambda words: words.update(messages=True), "not of a chat"),
    "messages that are text": (lambda words: words.update(messages="x"), "not of a chat"),
    "an unknown role": (lambda words: words["messages"][-1].update(role="model"), "the role of message 2"),
    "a message without content": (lambda words: words["messages"][-1].pop("content"), "message 2.*content"),
    "a message with something else": (lambda words: words["messages"][0].update(tool_responses=[7]), "message 0"),
    "content of parts": (
        lambda words: words["messages"][1].update(content=[{"type": "text", "text": 7}]),
        "content of message 1",
    ),
    "content of null": (lambda words: words["messages"][-1].update(content=None), "content of message 2"),
    "content of an object, said by a person": (
        lambda words: words["messages"][1].update(content={"error": "not executed"}),
        "content of message 1",
    ),
    "a thought that is a list": (lambda words: words["messages"][-1].update(reasoning=[]), "reasoning of message 2"),
    "calls of a person": (lambda words: words["messages"][1].update(tool_calls=[]), "message 1"),
    "a result without its call": (
        lambda words: words["messages"].append({"role": "tool", "content": "x"}),
        "message 3",
    ),
    "a result of a number": (lambda words: words["messages"].append(RESULT | {"content": 7}), "content of message 3"),
    "a result with a name of a list": (
        lambda words: words["messages"].append(RESULT | {"name": []}),
        "name of message",
    ),
    "a result of many levels": (
        lambda words: words["messages"].append(RESULT | {"content": {"value": nested(300)}}),
        "levels",
    ),
    "a result of all values that there may be, and no settings": (
        lambda words: words.update(
            messages=[*words["messages"], RESULT | {"content": {"value": [{}] * 32_000}}], settings=7
        ),
        "not of a chat",
    ),
    "sampling of many levels": (lambda words: words["sampling"].update(eos_token_id=nested(300)), "levels"),
    "all tokens suppressed": (lambda words: words["sampling"].update(suppress_tokens=[*range(640)]), "suppress_tokens"),
    "an unknown end": (lambda words: words["settings"].update(context_full="?"), "context_full"),
    "turns below zero": (lambda words: words["settings"].update(dropped_turns=-1), "dropped_turns"),
    "thoughts below zero": (lambda words: words["settings"].update(thinking=-1), "thinking"),
    "thoughts without end": (lambda words: words["settings"].update(thinking=1e308), "thinking"),
    "tools that are text": (lambda words: words["settings"].update(tools="x"), "tools"),
    "tools that are numbers": (lambda words: words["settings"].update(tools=[7]), "tool"),
    "tools without a name": (lambda words: words["settings"].update(tools=[{}]), "tool"),
    "no settings": (lambda words: words.update(settings=[]), "not of a chat"),
    "a warm temperature": (lambda words: words["sampling"].update(temperature="warm"), "temperature"),
    "a temperature that is NaN": (lambda words: words["sampling"].update(temperature=float("nan")), "temperature|NaN"),
    "a top_k beyond all": (lambda words: words["sampling"].update(top_k=1 << 80), "top_k"),
    "end tokens in words": (lambda words: words["sampling"].update(eos_token_id=["x"]), "eos_token_id"),
    "sampling that is a list": (lambda words: words.update(sampling=[7]), "not of a chat"),
    "a version that is null": (lambda words: words.update(gemmule=None), "not of a chat"),
}

# What an answer's calls are, and what the message says.
CALLS: list[tuple[object, str]] = [
    (7, "tool_calls of message 2"),
    (None, "tool_calls of message 2"),
    ("abc", "tool_calls of message 2"),
    ({"id": "0"}, "tool_calls of message 2"),
    ([7], "not of a chat"),
    ([None], "not of a chat"),
    ([[]], "not of a chat"),
    (["abc"], "not of a chat"),
    ([{}], "id"),
    ([{"id": 1}], "id of a call in message 2"),
    ([{"id": "0"}], "function"),
    ([{"id": "0", "function": 7}], "not of a chat"),
    ([{"id": "0", "function": {}}], "name"),
    ([{"id": "0", "function": {"name": [], "arguments": {}}}], "name of a call in message 2"),
    ([{"id": "0", "function": {"name": "look", "arguments": 7}}], "arguments of a call in message 2"),
]

# Texts in place of the words.
TEXTS = {
    "no text": (b"", "not of a chat"),
    "a list": (b"[]", "not of a chat"),
    "a number": (b"7", "not of a chat"),
    "an empty object": (b"{}", "not of a chat"),
    "brackets alone": (b"[" * 1_000_000, "do not close|not of a chat"),
    "objects alone": (b'{"a":' * 200_000, "not of a chat"),
    "600 levels that close": (b"[" * 600 + b"]" * 600, "levels"),
    "a saw of brackets": (b"[" + (b"[" * 60 + b"]" * 60 + b",") * 1000 + b"7]", "not of a chat"),
    "two million empty objects": (b'{"a":[' + b"{}," * 2_000_000 + b"{}]}", "more than 65536 (values|strings)"),
    "two million strings": (b'["' + b'","' * 2_000_000 + b'"]', "more than 65536 (values|strings)"),
    "three million commas": (b"[0" + b",0" * 3_000_000 + b"]", "more than 65536 (values|strings)"),
    "6 MB of escapes": (b'["' + b"\\n" * 3_000_000 + b'"]', "not of a chat"),
    "6 MB of escaped quotes": (b'["' + b'\\"' * 3_000_000 + b'"]', "not of a chat"),
    "7 MB of spaces": (b" " * 7_000_000, "JSON longer than any chat's"),
    "objects that seem to be text": (
        b'["\\\\",' + b"{}," * 2_000_000 + b'"\\\\"]',
        "more than 65536 (values|strings)",
    ),
    "emoji and all strings that there may be": (
        ('["\N{FOX FACE}"' + ',"a"' * 65_000 + ',"' + "x" * 6_000_000 + '"]').encode(),
        "not of a chat",
    ),
    "a number beyond all": (b'{"messages": [1e999]}', "1e999 is no finite number"),
    "minus infinity": (b'{"messages": [-Infinity]}', "-Infinity is no finite number"),
    "a key twice": (b'{"parts": [], "parts": []}', "twice"),
    "bytes that are not UTF-8": (b"\xff{}", "not of a chat"),
    "half a character": (b'{"\\ud800": 1}', "not of a chat"),
    "a number of 100,000 digits": (b"9" * 100_000, "not of a chat"),
    "text in UTF-16": ("{}".encode("utf-16"), "not of a chat"),
}

# The first line, as a whole file.
LINES = {
    "an empty file": (b"", "first line"),
    "a file of zeros": (bytes(4096), "first line"),
    "a first line alone": (b"gemmule-chat 1 000000000000 " + b"0" * 64 + b"\n", "checksum"),
    "words of a terabyte": (b"gemmule-chat 1 999999999999 " + b"0" * 64 + b"\n{}", "JSON longer than any chat's"),
    "words that end early": (b"gemmule-chat 1 000000000003 " + b"0" * 64 + b"\n{}", "end before that of its JSON"),
    "words of a negative length": (b"gemmule-chat 1 -00000000001 " + b"0" * 64 + b"\n{}", "first line"),
    "a version to come": (b"gemmule-chat 2 000000000002 " + b"0" * 64 + b"\n{}", "version"),
    "digits of another script": ("gemmule-chat 1 00000000000\u0662 ".encode() + b"0" * 64 + b"\n{}", "first line"),
    "a pickle": (b"\x80\x04\x95" + bytes(200), "first line"),
    "a ZIP archive": (b"PK\x03\x04" + bytes(200), "first line"),
}


RESULT = {"role": "tool", "name": "look", "tool_call_id": "0", "content": "x"}


def nested(levels: int) -> object:
    value: object = "x"
    for _ in range(levels):
        value = [value]
    return value


def swap_bytes(parts: list[dict[str, Any]]) -> None:
    parts[0]["bytes"], parts[1]["bytes"] = parts[1]["bytes"], parts[0]["bytes"]


@cache
def model() -> gemmule.Model:
    return chat_model("mobile", "static")


@cache
def whole() -> bytes:
    """A small chat's file."""
    chat = model().chat("Be brief.")
    chat.send("A tale about a fox.", temperature=0, max_tokens=12, ignore_eos=True)
    with TemporaryDirectory() as folder:
        chat.save(Path(folder) / FILE)
        return (Path(folder) / FILE).read_bytes()


def words_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The words of a file, and its parts."""
    end = FIRST_LINE + int(data[:FIRST_LINE].split()[2])
    return json.loads(data[FIRST_LINE:end]), data[end:]


def with_text(text: bytes, parts: bytes) -> bytes:
    return b"gemmule-chat 1 %012d %s\n" % (len(text), hashlib.sha256(text).hexdigest().encode()) + text + parts


def with_words(change: Callable[[dict], object]) -> bytes:
    words, parts = words_of(whole())
    change(words)
    return with_text(json.dumps(words).encode(), parts)


def with_part(number: int, change: Callable[[bytearray], object]) -> bytes:
    """A part with other bytes, and its checksum made right again."""
    words, parts = words_of(whole())
    begin = sum(part["bytes"] for part in words["parts"][:number])
    end = begin + words["parts"][number]["bytes"]
    part = bytearray(parts[begin:end])
    change(part)
    words["parts"][number]["sha256"] = hashlib.sha256(part).hexdigest()
    return with_text(json.dumps(words).encode(), parts[:begin] + bytes(part) + parts[end:])


def with_ids(ids: list[int]) -> bytes:
    def change(part: bytearray) -> None:
        part[: 4 * len(ids)] = np.array(ids, "<i4").tobytes()

    return with_part(0, change)


def write(folder: Path, data: bytes) -> Path:
    (folder / FILE).write_bytes(data)
    return folder / FILE


def write_sparse(folder: Path) -> Path:
    """Two gigabytes of zeros that take no room."""
    write(folder, b"gemmule-chat 1 %012d %s\n" % (2 << 30, b"0" * 64))
    os.truncate(folder / FILE, FIRST_LINE + (2 << 30))
    return folder / FILE


def open_chat(path: str) -> object:
    return model().load_chat(path)


def open_in_a_short_context(path: str) -> object:
    return chat_model("mobile", "static", context=16).load_chat(path)


def open_in_another_cache(path: str) -> object:
    return chat_model("mobile", "bf16").load_chat(path)


def cases() -> Iterator[Case]:
    def case(
        name: str,
        make: Callable[[], bytes],
        match: str,
        error: type[GemmuleError] = FormatError,
        open: Callable[[str], object] = open_chat,
    ) -> Case:
        return Case(name, lambda folder: write(folder, make()), match, error, r"fox\.chat", open=open)

    for name, (change, match) in WORDS.items():
        yield case(name, lambda change=change: with_words(change), match)
    for name, (text, match) in TEXTS.items():
        yield case(f"words: {name}", lambda text=text: with_text(text, b""), match)
    for name, (data, match) in LINES.items():
        yield case(name, lambda data=data: data, match)
    for wrong in (-1, 640, (1 << 31) - 1, -(1 << 31)):
        yield case(f"an id of {wrong}", lambda wrong=wrong: with_ids([wrong]), "token id that the model does not have")
    for calls, match in CALLS:
        yield case(
            f"calls of {calls!r}",
            lambda calls=calls: with_words(lambda words: words["messages"][-1].update(tool_calls=calls)),
            match,
        )
    yield Case("words of 2 GB, all there", write_sparse, "longer than any chat's", file=r"fox\.chat", open=open_chat)
    yield case("a byte at the end", lambda: whole() + b"\0", "another length")
    yield case("a last byte that is gone", lambda: whole()[:-1], "another length")
    yield case(
        "another model's",
        lambda: with_words(lambda words: words["model"].update(sha256="0" * 64)),
        "another model",
        ArgumentError,
    )
    for key, other in (("name", {"sha256": "0" * 64}), ("kv", {}), ("activations", {})):
        yield case(
            f"another model's, with a {key} that clears the screen",
            lambda other=other | {key: "\x1b[2J\x07\u202e"}: with_words(lambda words: words["model"].update(other)),
            r"\\u001b\[2J\\u0007\\u202e",
            ArgumentError,
        )
    yield case("another cache's", whole, 'loaded with kv="static"', ArgumentError, open_in_another_cache)
    yield case("more tokens than the context holds", whole, "context holds 16", ContextError, open_in_a_short_context)
