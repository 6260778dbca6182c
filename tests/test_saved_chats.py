"""Chats that are forked, taken back, saved and loaded go on with the same bits; files that are damaged are refused."""

import errno
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import time
from copy import copy, deepcopy

import numpy as np
import pytest

import gemmule
from chat_models import KINDS, chat_folder, chat_model, logits_behind
from gemmule.chats import chat_file

GREEDY = {"temperature": 0, "max_tokens": 12, "ignore_eos": True, "logprobs": True}
TEXTS = ["A tale about a fox.", "What did the fox learn?", "And then? " * 20, "Why?"]


@pytest.fixture(params=KINDS, ids=["f32", "bf16", "static"])
def model(request):
    return chat_model(*request.param)


def spoken(model, texts, **options):
    chat = model.chat("Be brief.", **options)
    for text in texts:
        chat.send(text, **GREEDY)
    return chat


def assert_goes_on_alike(one, other, text="Go on."):
    assert one.messages == other.messages
    assert np.array_equal(logits_behind(one, text), logits_behind(other, text))
    results = [each.send(text, **GREEDY) for each in (one, other)]
    assert results[0].tokens == results[1].tokens
    assert results[0].logprobs == results[1].logprobs
    assert one.messages == other.messages


@pytest.mark.parametrize("turns", range(5))
def test_a_fork_goes_on_alike_and_alone(model, turns):
    chat = spoken(model, TEXTS[:turns])
    fork = chat.fork()
    fork.send("Something else.", **GREEDY)
    assert_goes_on_alike(chat, spoken(model, TEXTS[:turns]))
    assert_goes_on_alike(fork, spoken(model, [*TEXTS[:turns], "Something else."]))


def test_forking_in_the_middle_of_an_answer(model):
    chat = spoken(model, TEXTS[:1])
    answer = chat.stream(TEXTS[1], **GREEDY)
    next(answer)
    fork = chat.fork()
    assert len(list(answer)) == GREEDY["max_tokens"] - 1
    assert_goes_on_alike(fork, spoken(model, TEXTS[:1]))
    assert_goes_on_alike(chat, spoken(model, TEXTS[:2]))


def test_a_copy_is_a_fork(model):
    chat = spoken(model, TEXTS[:1])
    one, other = copy(chat), copy(chat)
    chat.undo()
    chat.send("Something quite different, and longer than that was.", **GREEDY)
    assert_goes_on_alike(one, other)
    assert_goes_on_alike(chat, spoken(model, ["Something quite different, and longer than that was."]))


@pytest.mark.parametrize("call", [deepcopy, pickle.dumps, lambda thing: deepcopy([thing])])
def test_what_cannot_be_copied_says_so(call):
    model = chat_model("mobile", "static")
    with pytest.raises(gemmule.UnsupportedError, match=r"a chat cannot .*\nUse fork .* and load_chat it there"):
        call(model.chat())
    with pytest.raises(gemmule.UnsupportedError, match=r"a model cannot .*\nLoad it .*gemmule\.load\('.*mobile'\)"):
        call(model)


def test_a_copy_of_a_model_is_itself():
    model = chat_model("mobile", "static")
    assert copy(model) is model


@pytest.mark.parametrize("turns", range(1, 5))
def test_undo(model, turns):
    chat = spoken(model, TEXTS[:turns])
    chat.undo()
    assert_goes_on_alike(chat, spoken(model, TEXTS[: turns - 1]))


def test_undo_to_the_beginning(model):
    chat = spoken(model, TEXTS[:2])
    next(chat.stream("Hm?", **GREEDY))
    chat.undo()  # what was not finished is no turn
    chat.undo()
    assert chat.messages == [{"role": "system", "content": "Be brief."}]
    with pytest.raises(gemmule.ArgumentError, match="no turn"):
        chat.undo()


@pytest.mark.parametrize("turns", range(5))
def test_a_loaded_chat_goes_on_alike(model, turns, tmp_path):
    chat = spoken(model, TEXTS[:turns])
    chat.save(tmp_path / "fox.chat")
    loaded = model.load_chat(tmp_path / "fox.chat")
    assert_goes_on_alike(loaded, chat)
    assert [each.name for each in tmp_path.iterdir()] == ["fox.chat"]


def test_a_loaded_chat_reads_no_more_than_the_saved_one(model, tmp_path):
    chat = spoken(model, [TEXTS[2]])
    chat.save(tmp_path / "fox.chat")
    loaded = model.load_chat(tmp_path / "fox.chat")
    cached = [each.send("Go on.", **GREEDY).usage.cached_tokens for each in (chat, loaded)]
    assert cached[0] == cached[1]
    assert cached[1] > 100


def test_saving_takes_nothing_from_the_chat(model, tmp_path):
    chat = spoken(model, TEXTS[:2])
    for _ in range(3):
        chat.save(str(tmp_path / "fox.chat"))
    assert_goes_on_alike(chat, spoken(model, TEXTS[:2]))
    want = chat.fork().send("Hm?", **GREEDY).tokens
    answer = chat.stream("Hm?", **GREEDY)
    begin = [next(answer) for _ in range(5)]
    chat.save(tmp_path / "fox.chat")  # without the unfinished answer
    assert [piece.token for piece in (*begin, *answer)] == want
    assert model.load_chat(tmp_path / "fox.chat").messages == chat.messages[:-2]


def test_the_file_is_readable(model, tmp_path):
    chat = spoken(model, ['Straße "x"\n\x00 <|turn>user 🦊', "Why?"])
    chat.save(tmp_path / "fox.chat")
    data = (tmp_path / "fox.chat").read_bytes()
    magic, version, size, digest = data.split(b"\n", 1)[0].split(b" ")
    assert (magic, version) == (b"gemmule-chat", b"1")
    text = data.split(b"\n", 1)[1][: int(size)]
    assert hashlib.sha256(text).hexdigest().encode() == digest
    words = json.loads(text)
    assert words["messages"] == chat.messages
    assert words["gemmule"] == gemmule.__version__
    assert words["model"]["kv"] == model.info["kv"]
    assert words["sampling"]["temperature"] == 1.0
    assert words["settings"] == {"thinking": False, "tools": [], "context_full": "stop", "dropped_turns": 0}
    at = len(data) - sum(part["bytes"] for part in words["parts"])
    for part in words["parts"]:
        assert hashlib.sha256(data[at : at + part["bytes"]]).hexdigest() == part["sha256"]
        at += part["bytes"]
    saved = gemmule.read_chat(tmp_path / "fox.chat")
    assert saved.messages == chat.messages
    assert saved.gemmule == gemmule.__version__
    assert saved.model.sha256 == words["model"]["sha256"]
    assert saved.cached_tokens * 4 == words["parts"][0]["bytes"] > 0


def test_defaults_of_sampling_come_back(tmp_path):
    folder = chat_folder("mobile", tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, "eos_token_id": [1, 5]}))
    spoken(gemmule.load(folder, trust_template=True), TEXTS[:1]).save(tmp_path / "fox.chat")
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.3, "top_k": 7}))
    chat = gemmule.load(folder, trust_template=True).load_chat(tmp_path / "fox.chat")
    assert chat._defaults.temperature == 0
    assert chat._defaults.end_tokens == {1, 5}


# ---- files that are refused


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small chat's file, and what it says."""
    model = chat_model("mobile", "static")
    path = tmp_path_factory.mktemp("saved") / "fox.chat"
    spoken(model, TEXTS[:1]).save(path)
    return path.read_bytes(), gemmule.read_chat(path).messages


def assert_refused(path, data, messages=None):
    """By model and in time; where `messages` are given they can still be read."""
    path.write_bytes(data)
    model = chat_model("mobile", "static")
    begin = time.process_time()
    with pytest.raises(gemmule.FormatError, match=r"fox\.chat") as error:
        model.load_chat(path)
    assert time.process_time() - begin < 0.1
    assert error.value.remedy
    if messages is not None:
        assert gemmule.read_chat(path).messages == messages
    else:
        with pytest.raises(gemmule.FormatError, match=r"fox\.chat"):
            gemmule.read_chat(path)


def ends_of(data):
    """Where the first line, the JSON and each part end."""
    line = data.index(b"\n") + 1
    size = int(data[:line].split()[2])
    ends = [line, line + size]
    for part in json.loads(data[line : line + size])["parts"]:
        ends.append(ends[-1] + part["bytes"])
    assert ends[-1] == len(data)
    return ends


def test_a_file_cut_anywhere_is_refused(saved, tmp_path):
    data, messages = saved
    ends = ends_of(data)
    places = {0, 1, 12, 92, *(end + by for end in ends for by in (-1, 0, 1)), *range(2, len(data), len(data) // 50)}
    for place in sorted(place for place in places if place < len(data)):
        assert_refused(tmp_path / "fox.chat", data[:place], messages if place >= ends[1] else None)


def test_a_longer_file_is_refused(saved, tmp_path):
    data, messages = saved
    assert_refused(tmp_path / "fox.chat", data + b"\0", messages)


def test_a_flipped_bit_is_refused(saved, tmp_path):
    data, messages = saved
    ends = ends_of(data)
    random = np.random.default_rng(0)
    places = [*range(ends[0]), *(end + by for end in ends[:-1] for by in (-1, 0)), len(data) - 1]
    places += random.integers(ends[0], len(data), 150).tolist()
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << random.integers(8)
        assert_refused(tmp_path / "fox.chat", bytes(changed), messages if place >= ends[1] else None)


def with_words(data, change):
    """A file whose JSON was changed by somebody who knows of checksums."""
    ends = ends_of(data)
    words = json.loads(data[ends[0] : ends[1]])
    change(words)
    text = words if isinstance(words, bytes) else json.dumps(words).encode()
    return with_text(data, text)


def with_text(data, text):
    line = b"gemmule-chat 1 %012d %s\n" % (len(text), hashlib.sha256(text).hexdigest().encode())
    return line + text + data[ends_of(data)[1] :]


@pytest.mark.parametrize(
    "change",
    [
        lambda words: words["parts"].pop(),
        lambda words: words["parts"].reverse(),
        lambda words: words["parts"].clear(),
        lambda words: words["parts"][1].update(layer=2),
        lambda words: words["parts"][1].update(encoding="f32"),
        lambda words: words["parts"][1].update(bytes=2**62),
        lambda words: words["parts"][1].update(bytes=-1),
        lambda words: words["parts"][1]["shape"].append(1),
        lambda words: words["parts"][0].update(shape=[2**61], bytes=2**63),
        lambda words: words["parts"][0].update(shape=[1]),
        lambda words: words["parts"][0].update(sha256="0" * 64),
        lambda words: words["parts"][1].update(bytes=words["parts"][1]["bytes"] - 1),
        lambda words: words.pop("parts"),
        lambda words: words.pop("model"),
        lambda words: words["model"].pop("sha256"),
        lambda words: words["messages"].append({"role": 7}),
        lambda words: words.update(messages={}),
        lambda words: words.update(messages="x"),
        lambda words: words["settings"].update(context_full="?"),
        lambda words: words["settings"].update(dropped_turns=-1),
        lambda words: words["settings"].update(thinking=-1),
        lambda words: words["settings"].update(tools="x"),
        lambda words: words["sampling"].update(temperature="warm"),
        lambda words: words["sampling"].update(eos_token_id=["x"]),
        lambda words: words.update(sampling=[]),
        lambda words: words.update(gemmule=None),
    ],
)
def test_words_that_lie_are_refused(saved, tmp_path, change):
    path = tmp_path / "fox.chat"
    path.write_bytes(with_words(saved[0], change))
    with pytest.raises(gemmule.FormatError, match=r"fox\.chat"):
        chat_model("mobile", "static").load_chat(path)


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"{}", b"[" * 100000, b"\xff{}", b'{"parts": [[]]}'])
def test_other_json_is_refused(saved, tmp_path, text):
    assert_refused(tmp_path / "fox.chat", with_text(saved[0], text))


def test_what_no_chat_was_saved_in_is_refused(saved, tmp_path):
    """The remedy is not read_chat, which would say the same."""
    path = tmp_path / "fox.chat"
    for data, remedy in (
        (b"# Foxes", "Pass a file that Chat.save wrote"),
        (saved[0].replace(b" 1 ", b" 2 ", 1), "Update"),
    ):
        path.write_bytes(data)
        for read in (gemmule.read_chat, chat_model("mobile", "static").load_chat):
            with pytest.raises(gemmule.FormatError) as refused:
                read(path)
            assert refused.value.remedy.startswith(remedy)


def test_ids_outside_of_the_vocabulary_are_refused(saved, tmp_path):
    for wrong in (-1, 640, 2**31 - 1):
        data = bytearray(saved[0])
        begin, end = ends_of(saved[0])[1:3]
        data[begin : begin + 4] = np.array([wrong], "<i4").tobytes()
        digest = hashlib.sha256(data[begin:end]).hexdigest()
        changed = with_words(bytes(data), lambda words, digest=digest: words["parts"][0].update(sha256=digest))
        assert_refused(tmp_path / "fox.chat", changed, saved[1])


def test_a_number_that_is_not_finite_is_refused(tmp_path):
    model = chat_model("e2b", "float32")
    spoken(model, TEXTS[:1]).save(tmp_path / "fox.chat")
    data = bytearray((tmp_path / "fox.chat").read_bytes())
    begin, end = ends_of(bytes(data))[2:4]
    data[begin : begin + 4] = np.array([np.nan], "<f4").tobytes()
    digest = hashlib.sha256(data[begin:end]).hexdigest()
    changed = with_words(bytes(data), lambda words: words["parts"][1].update(sha256=digest))
    (tmp_path / "fox.chat").write_bytes(changed)
    with pytest.raises(gemmule.FormatError, match=r"fox\.chat.*not finite"):
        model.load_chat(tmp_path / "fox.chat")


def test_a_chat_of_another_model_is_refused(saved, tmp_path):
    path = tmp_path / "fox.chat"
    path.write_bytes(saved[0])
    for other, reason in [
        (chat_model("e2b", "float32"), "another model"),
        (chat_model("mobile_absmax", "static"), "another model"),
        (chat_model("mobile", "bf16"), 'kv="static"'),
        (chat_model("mobile", "static", activations="float32"), 'activations="static"'),
    ]:
        with pytest.raises(gemmule.ArgumentError, match=reason) as error:
            other.load_chat(path)
        assert "read_chat" in error.value.remedy
        assert other.chat("x").send("Hi", **GREEDY).tokens  # it stays usable
    assert gemmule.read_chat(path).messages == saved[1]
    with pytest.raises(gemmule.ContextError, match="context"):
        chat_model("mobile", "static", context=16).load_chat(path)


def test_copies_of_a_model_are_the_same_model(saved, tmp_path):
    (tmp_path / "fox.chat").write_bytes(saved[0])
    folder = chat_folder("mobile", tmp_path / "copy")
    copy = gemmule.load(folder, trust_template=True)
    assert copy.load_chat(tmp_path / "fox.chat").messages == saved[1]


def test_a_changed_weight_is_another_model(tmp_path):
    model = gemmule.load(chat_folder("mobile", tmp_path / "one"), trust_template=True)
    begin = time.process_time()
    want = chat_file.fingerprint(model._core)
    assert time.process_time() - begin < 0.05
    for file in sorted((tmp_path / "one").glob("*.safetensors")):
        folder = tmp_path / file.stem
        shutil.copytree(tmp_path / "one", folder)
        data = bytearray((folder / file.name).read_bytes())
        data[-1] ^= 1
        (folder / file.name).write_bytes(data)
        assert chat_file.fingerprint(gemmule.load(folder)._core) != want
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    config["text_config"]["sliding_window"] = 8
    (tmp_path / "one" / "config.json").write_text(json.dumps(config))
    assert chat_file.fingerprint(gemmule.load(tmp_path / "one")._core) != want


@pytest.mark.parametrize("path", ["", "\0", 7, None])
def test_refuses_what_is_no_path(path):
    model = chat_model("mobile", "static")
    for call in (model.chat().save, model.load_chat, gemmule.read_chat):
        with pytest.raises((gemmule.ArgumentError, gemmule.FormatError)):
            call(path)


def test_refuses_what_is_no_file(tmp_path):
    model = chat_model("mobile", "static")
    os.mkfifo(tmp_path / "pipe")
    for call in (model.load_chat, gemmule.read_chat):
        with pytest.raises(gemmule.MissingFileError):
            call(tmp_path / "none.chat")
        for place in (tmp_path, tmp_path / "pipe"):
            with pytest.raises(gemmule.FormatError, match="not a file"):
                call(place)
    with pytest.raises(gemmule.MissingFileError):
        model.chat().save(tmp_path / "no" / "fox.chat")
    with pytest.raises(gemmule.ArgumentError):
        model.chat().save(tmp_path)


def test_a_disk_that_fails_while_it_is_read(saved, tmp_path, monkeypatch):
    with pytest.raises(gemmule.ResourceError, match="/proc/self/mem: Input/output error") as error:
        gemmule.read_chat("/proc/self/mem")
    assert "disk" in error.value.remedy

    class Failing(io.FileIO):
        def readinto(self, buffer):
            if self.tell() >= ends_of(saved[0])[2]:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().readinto(memoryview(buffer)[:64])

    path = tmp_path / "fox.chat"
    path.write_bytes(saved[0])
    monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: io.BufferedReader(Failing(descriptor, mode)))
    with pytest.raises(gemmule.ResourceError, match=r"fox\.chat: Input/output error"):
        chat_model("mobile", "static").load_chat(path)
    assert gemmule.read_chat(path).messages == saved[1]


@pytest.mark.parametrize(
    ("bound", "message"), [("MOST_BYTES", "at most 100 bytes; found"), ("_MOST_VALUES", "found more than 100 strings")]
)
def test_what_could_not_be_read_again_is_not_saved(monkeypatch, tmp_path, bound, message):
    chat = spoken(chat_model("mobile", "static"), TEXTS[:1])
    chat._messages[0]["content"] = ["one", "two"] * 100
    monkeypatch.setattr(f"gemmule.chats.words.{bound}", 100)
    with pytest.raises(gemmule.ArgumentError, match=rf"fox\.chat: .*{message}"):
        chat.save(tmp_path / "fox.chat")
    assert not [*tmp_path.iterdir()]


def test_all_that_may_be_in_a_chat_is_read_again(tmp_path):
    """A result of several levels, long integers, and characters of all kinds."""
    chat = chat_model("mobile", "static").chat()
    value: object = [2**70, 1e300, None, True, '\\\\"\N{FOX FACE},[{\x00\u2028']
    for _ in range(20):
        value = {"inner": value}
    call = {"id": "0", "type": "function", "function": {"name": "look", "arguments": "x"}}
    chat._messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "", "reasoning": "Hm.", "tool_calls": [call]},
        {"role": "tool", "name": "look", "tool_call_id": "0", "content": value},
        {"role": "assistant", "content": "I have."},
    ]
    chat.save(tmp_path / "fox.chat")
    assert chat_model("mobile", "static").load_chat(tmp_path / "fox.chat").messages == chat.messages


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_full_disk_leaves_what_was_there(monkeypatch, tmp_path, call):
    chat = spoken(chat_model("mobile", "static"), TEXTS[:1])
    path = tmp_path / "fox.chat"
    chat.save(path)
    before = path.read_bytes()
    chat.send("More.", **GREEDY)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(gemmule.ResourceError, match="No space left"):
        chat.save(path)
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["fox.chat"]
    assert path.read_bytes() == before
    chat.save(path)
    assert re.search(rb"More\.", path.read_bytes())


def test_thinking_and_tools_come_back(tmp_path):
    """Functions stand in no file: they are given again, or their schemas are all there is."""

    def get_weather(city: str) -> str:
        """Weather of a place."""
        return city

    model = chat_model("mobile", "static")
    chat = model.chat(thinking=64, tools=[get_weather])
    chat.send("Hi", **GREEDY)
    chat.save(tmp_path / "fox.chat")
    for loaded in (
        model.load_chat(tmp_path / "fox.chat"),
        model.load_chat(tmp_path / "fox.chat", tools=[get_weather]),
    ):
        assert np.array_equal(logits_behind(loaded, "Go on."), logits_behind(chat, "Go on."))
        assert loaded._thought_tokens == 64
        assert loaded.send("Go on.", **GREEDY).usage.cached_tokens > 100
    with pytest.raises(gemmule.ArgumentError, match="schema"):
        model.load_chat(tmp_path / "fox.chat").run("Hi", **GREEDY)
