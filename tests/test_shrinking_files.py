"""Files that another program shortens while they are in use: an error that says so, never SIGBUS, never other text."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import gemmule
from chat_models import chat_folder
from gemmule.outputs import output
from golden_cases import FIXTURES

CHECKPOINTS = ["e2b", "mobile", "moe", "ct_w4a16", "gguf_e2b/model-Q4_0.gguf", "gguf_kquant/model-Q4_K_M.gguf"]
ASKED = {"temperature": 0, "max_tokens": 5, "ignore_eos": True}
IDS = list(range(2, 150))


def copied(name, folder):
    source = FIXTURES / name
    return Path((shutil.copytree if source.is_dir() else shutil.copy)(source, folder / source.name))


def weights(place):
    """The file with the most bytes of weights."""
    files = [place] if place.is_file() else list(place.glob("model*.safetensors"))
    return max(files, key=lambda file: file.stat().st_size)


def assert_says_so(error, file, size):
    assert error.value.file == str(file)
    assert error.value.expected == f"{size} bytes, as when it was loaded"
    assert error.value.found == f"{file.stat().st_size} bytes"
    assert "Load the checkpoint again" in error.value.remedy


@pytest.mark.parametrize(
    "left", [lambda size: 0, lambda size: size // 2, lambda size: size - 1], ids=["0", "half", "1"]
)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_shorter_file_is_an_error(name, left, tmp_path):
    """Also where a single byte is missing, whose page is still there. A new file in its place is as good as ever."""
    place = copied(name, tmp_path)
    file = weights(place)
    size = file.stat().st_size
    model = gemmule.load(place, threads=2)
    want = model.generate(IDS, **ASKED).tokens
    os.truncate(file, left(size))
    for call in (model.generate, model.logits, model.score):
        with pytest.raises(gemmule.ResourceError, match="became shorter while it was in use") as error:
            call(IDS)
        assert_says_so(error, file, size)
    with pytest.raises(gemmule.ResourceError):
        model.generate([[2], [3]], **ASKED)
    with pytest.raises(gemmule.ResourceError):
        asyncio.run(model.agenerate([2, 3], **ASKED))
    new = tmp_path / "new"
    shutil.copy(FIXTURES / name if place.is_file() else FIXTURES / name / file.name, new)
    new.rename(file)
    assert gemmule.load(place, threads=2).generate(IDS, **ASKED).tokens == want


def test_a_chat_keeps_its_turns(tmp_path):
    folder = chat_folder("mobile", tmp_path / "model")
    model = gemmule.load(folder, trust_template=True)
    chat = model.chat()
    chat.send("A fox?", **ASKED)
    before = chat.messages
    os.truncate(weights(folder), 1000)
    with pytest.raises(gemmule.ResourceError):
        chat.send("And then?", **ASKED)
    assert chat.messages == before


def test_a_drafter_s_file(tmp_path):
    folder = Path(shutil.copytree(Path(gemmule.__file__).parent / "data" / "fairy-drafter", tmp_path / "drafter"))
    model = gemmule.load("fairy", mtp=folder)
    os.truncate(weights(folder), 1000)
    with pytest.raises(gemmule.ResourceError, match="became shorter"):
        model.generate("Once", seed=1, max_tokens=60)
    assert model.generate("Once", seed=1, max_tokens=5, draft=None).tokens  # the model itself is whole


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_pages_that_are_gone_in_the_middle_of_a_call(name, tmp_path):
    """Without a look at the file before: reading the map would end the process."""
    place = copied(name, tmp_path)
    file = weights(place)
    source = gemmule._core.Source(str(place), 1)
    tensors = source.tensors()
    os.truncate(file, 0)
    raised = []
    for number, (_, shape, *_) in enumerate(tensors):
        try:
            source.rows(number, 0, shape[0] if len(shape) > 1 else 1)
        except gemmule.ResourceError as error:
            raised.append(error.file)
    assert raised == [str(file)] * len(tensors)


def test_shortened_and_restored_between_two_calls(tmp_path):
    """Its size is what it was; pages that were read meanwhile are not."""
    place = copied("gguf_e2b/model-Q4_0.gguf", tmp_path)
    data = place.read_bytes()
    source = gemmule._core.Source(str(place), 1)
    model = gemmule.load(place)
    os.truncate(place, 0)
    with pytest.raises(gemmule.ResourceError):
        source.rows(0, 0, 1)
    place.write_bytes(data)
    with pytest.raises(gemmule.ResourceError, match="could not be read"):
        source.rows(0, 0, 1)
    assert len(model.logits(IDS)) == len(IDS)  # another map of the same file, of which nothing was missed


def repeat(model, want):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert np.array_equal(model.logits(IDS), want)


def test_at_any_moment_of_a_step(tmp_path):
    """Each result is right, or there is none."""
    place = copied("gguf_kquant/model-Q4_K_M.gguf", tmp_path)
    want = gemmule.load(place, threads=2).logits(IDS)
    source = np.random.default_rng(0)
    for turn in range(15):
        file = tmp_path / f"{turn}.gguf"
        shutil.copy(place, file)
        model = gemmule.load(file, threads=2)
        size = int(source.integers(file.stat().st_size))
        timer = threading.Timer(source.uniform(0.001, 0.03), os.truncate, (file, size))
        timer.start()
        with pytest.raises(gemmule.ResourceError):
            repeat(model, want)
        timer.join()


@pytest.mark.parametrize("to", ["q4_0", "bf16", "w4a16"])
def test_a_source_that_shrinks_while_it_is_converted(to, tmp_path, monkeypatch):
    place = copied("e2b", tmp_path)
    take_room = output.OutputFile.take_room

    def shorten(file):
        take_room(file)
        os.truncate(weights(place), 5000)

    monkeypatch.setattr(output.OutputFile, "take_room", shorten)
    with pytest.raises(gemmule.GemmuleError) as error:
        gemmule.convert(place, tmp_path / "out", to=to, progress=False)
    assert isinstance(error.value, gemmule.ResourceError)
    assert [path.name for path in tmp_path.iterdir()] == ["e2b"]


def test_a_gguf_source_that_shrinks_before_its_metadata_are_read(tmp_path, monkeypatch):
    place = copied("gguf_e2b/model-Q8_0.gguf", tmp_path)
    headers = gemmule._core.GgufHeaders

    def shorten(path):
        read = headers(path)
        os.truncate(place, 300)
        return read

    monkeypatch.setattr(gemmule._core, "GgufHeaders", shorten)
    from gemmule.conversion.gguf_file import read_metadata

    with pytest.raises(gemmule.FormatError, match="shorter"):
        read_metadata(place)


def test_appending_does_no_harm(tmp_path):
    place = copied("gguf_e2b/model-Q4_0.gguf", tmp_path)
    model = gemmule.load(place)
    want = model.logits(IDS)
    with place.open("ab") as file:
        file.write(b"\0" * 5000)
    assert np.array_equal(model.logits(IDS), want)


# Beside others who handle SIGBUS

HEAD = """
import ctypes, faulthandler, mmap, os, shutil, signal, sys, threading, gemmule
folder = sys.argv[1]
def load():
    shutil.copy(sys.argv[2], folder + "/a.gguf")
    global core, tensor
    core = gemmule._core.Source(folder + "/a.gguf", 1)
def ours():
    os.truncate(folder + "/a.gguf", 0)
    try:
        core.rows(0, 0, 1)
    except gemmule.ResourceError:
        print("ours", flush=True)
def another_s():
    with open(folder + "/other", "wb+") as file:
        file.write(bytes(10000))
        file.flush()
        other = mmap.mmap(file.fileno(), 0)
        os.truncate(folder + "/other", 0)
        print("other", flush=True)
        other[5000]
"""


def run(script, folder):
    model = FIXTURES / "gguf_e2b" / "model-Q4_0.gguf"
    command = [sys.executable, "-c", HEAD + script, str(folder), str(model)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


ORDERS = {
    "none": ("load()", 0),
    "faulthandler first": ("faulthandler.enable(); load()", 1),
    "faulthandler last": ("load(); faulthandler.enable()", 1),
    "faulthandler between": ("load(); faulthandler.enable(); load()", 1),
    "faulthandler again and again": ("faulthandler.enable(); load(); faulthandler.enable(); load()", 1),
    "faulthandler gone": ("faulthandler.enable(); load(); faulthandler.disable()", 0),
    "gone and come": ("load(); faulthandler.enable(); load(); faulthandler.disable(); load()", 0),
    "ignored": ("signal.signal(signal.SIGBUS, signal.SIG_IGN); load()", 0),
    "ignored later": ("load(); signal.signal(signal.SIGBUS, signal.SIG_IGN); load()", 0),
}


@pytest.mark.parametrize(("order", "reports"), ORDERS.values(), ids=ORDERS)
def test_faults_that_are_not_ours_go_where_they_went(order, reports, tmp_path):
    """SIGBUS ends the process, after faulthandler's report where it is enabled."""
    for before in ("", "ours()\n"):
        child = run(f"{order}\n{before}another_s()", tmp_path)
        assert child.returncode == -7, child.stderr
        assert child.stdout == ("ours\n" if before else "") + "other\n"
        assert child.stderr.count("Fatal Python error: Bus error") == reports


@pytest.mark.parametrize("order", [order for order, _ in ORDERS.values()], ids=ORDERS)
def test_ours_in_any_order(order, tmp_path):
    child = run(f"{order}\nours()", tmp_path)
    assert (child.returncode, child.stdout) == (0, "ours\n"), child.stderr


@pytest.mark.parametrize("order", ["load()", "faulthandler.enable(); load()", "load(); faulthandler.enable(); load()"])
def test_a_signal_that_somebody_sends(order, tmp_path):
    child = run(f"{order}\nos.kill(os.getpid(), signal.SIGBUS)\nprint('on')", tmp_path)
    assert (child.returncode, child.stdout) == (-7, "")
    assert child.stderr.count("Bus error") == order.count("enable")


def test_a_signal_for_python_s_own_handler(tmp_path):
    handler = "signal.signal(signal.SIGBUS, lambda *_: print('got', flush=True))"
    send = "os.kill(os.getpid(), signal.SIGBUS)"
    for order in (f"load(); {handler}; load()", f"{handler}; load()"):
        child = run(f"{order}\n{send}\n{send}\nours()\n{send}", tmp_path)
        assert (child.returncode, child.stdout) == (0, "got\ngot\nours\ngot\n"), child.stderr


# Files that the program itself takes from gemmule

CLOSED = """
import os, sys, gemmule
model = gemmule.load(sys.argv[1])
os.closerange(3, 256)  # as a daemon does when it starts
others = [os.open(sys.argv[2], os.O_RDONLY) for _ in range(int(sys.argv[3]))]  # and what has their numbers since
for call in (lambda: model.generate([2]), model._core.fingerprint):
    try:
        print(call())
    except gemmule.ResourceError as error:
        print(error.message, error.remedy, sep=": ")
"""


@pytest.mark.parametrize("others", [0, 20])
@pytest.mark.parametrize("name", ["e2b", "mobile"])
def test_descriptors_that_the_program_closes(name, others, tmp_path):
    """Nothing is made of what is read from the files that have their numbers since."""
    other = tmp_path / "other"
    other.write_bytes(bytes(2**22))
    command = [sys.executable, "-c", CLOSED, str(FIXTURES / name), str(other), str(others)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stderr) == (0, "")
    refused = child.stdout.splitlines()
    assert len(refused) == 2
    for line in refused:
        assert line.startswith(f"{FIXTURES / name}/model-0")
        assert line.endswith("Load the checkpoint after descriptors are closed (os.closerange, a daemon's start).")


def test_a_fingerprint_of_a_shorter_file(tmp_path):
    place = copied("gguf_e2b/model-Q8_0.gguf", tmp_path)
    model = gemmule.load(place)
    os.truncate(place, 5000)
    with pytest.raises(gemmule.ResourceError, match="became shorter") as error:
        model._core.fingerprint()
    assert error.value.file == str(place)


# What is read long after a file was opened

LATE = """
import faulthandler, os, shutil, sys, gemmule
from pathlib import Path
copy = shutil.copy(sys.argv[1], sys.argv[2] + "/a.gguf")
model = gemmule.load(copy)
headers = gemmule._core.GgufHeaders(copy)
faulthandler.enable()
os.truncate(copy, 0)
for read in (lambda: model.tokenizer, lambda: model._core.metadata, lambda: headers.vocabulary):
    try:
        print(read())
    except gemmule.ResourceError as error:
        print(error.found)
"""


def test_metadata_that_are_gone(tmp_path):
    command = [sys.executable, "-c", LATE, str(FIXTURES / "gguf_e2b" / "model-Q4_0.gguf"), str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stdout) == (0, "0 bytes\n" * 3), child.stderr


def test_metadata_that_are_written_over(tmp_path):
    """Lengths of strings are elsewhere then: no byte outside of the value is read."""
    place = copied("gguf_e2b/model-Q4_0.gguf", tmp_path)
    model = gemmule.load(place)
    other = (FIXTURES / "gguf_kquant" / "model-Q4_K_M.gguf").read_bytes()
    for shift in (0, 1, 4, 100):
        with place.open("r+b") as file:
            file.write(bytes(shift) + other[: place.stat().st_size - shift])
        with pytest.raises(gemmule.FormatError) as error:
            _ = model.tokenizer
        assert error.value.file == str(place)
