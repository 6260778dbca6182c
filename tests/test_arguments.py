"""What is no argument of the kind that a call takes is refused by name, before any work, whatever it is."""

import asyncio
import shutil
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import gemmule
from chat_models import chat_model
from fakes import TOKENIZER
from gemmule import arguments
from gemmule.errors import ArgumentError, NetworkError, ResourceError

TEXT = "Once upon a time " * 20
HUGE = 10**5000  # Python refuses to write it


class Unwritable:
    def __repr__(self):
        raise RuntimeError("no text")


@pytest.fixture(scope="module")
def fairy():
    return gemmule.load("fairy", threads=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (HUGE, "<int>"),
        ([HUGE], "<list>"),
        (Unwritable(), "<Unwritable>"),
        ("a" * 200, "'" + "a" * 76 + "..."),
        (None, "None"),
    ],
    ids=["an integer", "a list", "an object", "a text", "nothing"],
)
def test_values_are_shown_whatever_they_are(value, text):
    assert arguments.shown(value) == text


CALLS: dict[str, Callable[[gemmule.Model], object]] = {
    "a seed": lambda m: m.generate("Hi", seed=HUGE),
    "an id": lambda m: m.generate([HUGE]),
    "a prompt": lambda m: m.generate(Unwritable()),
    "several texts": lambda m: m.embed(Unwritable()),
    "a stop": lambda m: m.generate("Hi", stop=5),
    "a stop of no dimension": lambda m: m.generate("Hi", stop=np.array(5)),
    "a stop in a list": lambda m: m.generate("Hi", stop=[HUGE]),
    "a bias": lambda m: m.generate("Hi", logit_bias=Unwritable()),
    "a schema": lambda m: m.generate("Hi", schema=Unwritable()),
    "processors": lambda m: m.generate("Hi", logits_processors=HUGE),
    "a temperature in seconds": lambda m: m.generate("Hi", temperature=np.timedelta64(1, "s")),
    "ids in seconds": lambda m: m.generate(np.array([2, 5], "m8[s]")),
    "ids with a mask": lambda m: m.generate(np.ma.array([2, 5], mask=[0, 1])),
    "bytes": lambda m: m.generate(bytearray(b"Hi")),
    "a view of bytes": lambda m: m.generate(memoryview(b"Hi")),
    "a text's ids": lambda m: m.tokenizer.decode(5),
    "no ids": lambda m: m.tokenizer.decode(None),
    "an id that is text": lambda m: m.tokenizer.has_text("a"),
    "an id of no integer": lambda m: m.tokenizer.is_byte(1.0),
    "an id that is nothing": lambda m: m.tokenizer.spelled(None),
    "an id beyond all": lambda m: m.tokenizer.name(HUGE),
    "a token that is no text": lambda m: m.tokenizer.control_token(5),
    "a token of half a character": lambda m: m.tokenizer.control_token("\ud800"),
    "ids beyond all": lambda m: m.tokenizer.byte_length([2**64]),
    "a name in place of a model": lambda m: gemmule.perplexity("fairy", TEXT),
    "a name in place of a reference": lambda m: gemmule.compare(m, "fairy", TEXT),
    "an estimate of no arithmetic": lambda m: gemmule.estimate("fairy", activations="fp4"),
    "a hub name": lambda m: gemmule.pull(5),
    "a file of the hub": lambda m: gemmule.pull("a/b", file=5),
    "a revision": lambda m: gemmule.pull("a/b", revision=5),
    "a token of the hub": lambda m: gemmule.pull("a/b", token=5),
    "a model": lambda m: gemmule.load(np.zeros(2)),
    "a drafter": lambda m: gemmule.load("fairy", mtp=np.zeros(2)),
    "a cache": lambda m: gemmule.pull("a/b", cache_dir=b"x"),
    "a chat's file": lambda m: gemmule.read_chat(np.zeros(2)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_refused(call, fairy):
    with pytest.raises(ArgumentError) as caught:
        call(fairy)
    assert len(str(caught.value)) < 400


FLAGS: dict[str, Callable[[gemmule.Model, object], object]] = {
    "trust_template": lambda m, flag: gemmule.load("fairy", trust_template=flag),
    "trust_template of a tokenizer": lambda m, flag: gemmule.Tokenizer.from_pretrained("fairy", trust_template=flag),
    "local_files_only": lambda m, flag: gemmule.load("fairy", local_files_only=flag),
    "ignore_eos": lambda m, flag: m.generate("Hi", ignore_eos=flag),
    "logprobs": lambda m, flag: m.generate("Hi", logprobs=flag),
    "add_special_tokens": lambda m, flag: m.tokenizer.encode("Hi", add_special_tokens=flag),
    "parse_special": lambda m, flag: m.tokenizer.encode("Hi", parse_special=flag),
    "skip_special_tokens": lambda m, flag: m.tokenizer.decode([5], skip_special_tokens=flag),
    "progress": lambda m, flag: gemmule.perplexity(m, TEXT, window=8, windows=1, progress=flag),
    "progress of a download": lambda m, flag: gemmule.pull("a/b", local_files_only=True, progress=flag),
}
CONVERTED = ("pure", "force", "allow_nonfinite", "progress")
IN_CHATS: dict[str, Callable[[gemmule.Model, object], object]] = {
    "raise_errors": lambda m, flag: m.chat().run("Hi", raise_errors=flag, max_tokens=1),
    "enable_thinking": lambda m, flag: m.tokenizer.apply_chat_template(MESSAGES, enable_thinking=flag),
    "add_generation_prompt": lambda m, flag: m.tokenizer.apply_chat_template(MESSAGES, flag),
    "raw_answers": lambda m, flag: m.tokenizer.encode_messages(MESSAGES, raw_answers=flag),
}
MESSAGES = [{"role": "user", "content": "Hi"}]
NO_FLAGS = ("no", 1, None, np.zeros(2))


@pytest.mark.parametrize("value", NO_FLAGS, ids=["text", "a number", "nothing", "an array"])
def test_flags_are_true_or_false(value, fairy, tmp_path):
    model = chat_model("mobile", "static")
    calls = [partial(call, fairy) for call in FLAGS.values()]
    calls += [partial(call, model) for call in IN_CHATS.values()]
    calls += [
        lambda flag, name=name: gemmule.convert("fairy", tmp_path / "out.gguf", to="q4_0", **{name: flag})
        for name in CONVERTED
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match="expected True or False"):
            call(value)
    assert list(tmp_path.iterdir()) == []


def test_options_that_there_are_not(fairy):
    """The error is about the call that was made, whichever function it is that passes its options on."""
    chat = chat_model("mobile", "static").chat()
    for ask in (
        fairy.generate,
        chat.send,
        chat.run,
        lambda text, **options: asyncio.run(fairy.agenerate(text, **options)),
    ):
        with pytest.raises(TypeError, match=r"Model\.generate\(\).* 'foo'|'foo'.* Model\.generate\(\)"):
            ask("Hi", foo=1)


def test_flags_of_numpy(fairy):
    assert fairy.generate("Hi", logprobs=np.True_, ignore_eos=np.False_, max_tokens=1).logprobs is not None
    model = chat_model("mobile", "static")
    assert model.tokenizer.apply_chat_template(MESSAGES, np.True_) == model.tokenizer.apply_chat_template(MESSAGES)
    assert model.chat(thinking=np.False_).send("Hi", max_tokens=1).thinking is None


CONVERSIONS = {
    "a list": {"overrides": [("o", 4)]},
    "a text": {"overrides": ""},
    "a float": {"overrides": {"o": 4.0}},
    "an object": {"overrides": {"o": Unwritable()}},
    "weight scales": {"weight_scales": 5},
    "activation scales": {"activation_scales": 5},
    "bytes": {"calibrate": b"text"},
}


@pytest.mark.parametrize("options", CONVERSIONS.values(), ids=CONVERSIONS)
def test_conversions_refuse(options, tmp_path):
    with pytest.raises(ArgumentError):
        gemmule.convert("fairy", tmp_path / "out", to="mobile", **options)
    assert list(tmp_path.iterdir()) == []


def test_bits_of_numpy(tmp_path):
    report = gemmule.convert("fairy", tmp_path / "out", to="mobile", overrides={"o_proj$": np.int8(8)})
    assert {tensor.stored for tensor in report.tensors if "o_proj" in tensor.name} == {"8-bit"}


@pytest.mark.parametrize("name", ["weight_scales", "activation_scales"])
def test_names_that_are_too_long(name, tmp_path):
    with pytest.raises(ResourceError, match="File name too long"):
        gemmule.convert("fairy", tmp_path / "out", to="mobile", **{name: "x" * 5000})


# Paths


def test_home_folders_of_nobody(tmp_path, monkeypatch):
    """They are none, wherever a path is given; what has such a name is "./~x"."""
    for call in (
        gemmule.load,
        gemmule.inspect,
        gemmule.Tokenizer.from_pretrained,
        gemmule.read_chat,
        lambda path: gemmule.load("fairy", mtp=path),
        lambda path: gemmule.pull("a/b", cache_dir=path, local_files_only=True),
    ):
        with pytest.raises(ArgumentError, match="expected a path"):
            call("~nosuchuser/x")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TOKENIZER, "~x")
    assert gemmule.Tokenizer.from_pretrained("./~x").vocab_size > 0


@pytest.mark.parametrize("address", ["::", "http://[bad", "", "file:///x"])
def test_addresses_of_the_hub(address, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(NetworkError, match="HF_ENDPOINT"):
        gemmule.pull("a/b", cache_dir=tmp_path)
