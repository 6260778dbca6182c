"""What files say reaches terminals and logs without characters that are not seen."""

import io
import json
import sys
import time

import numpy as np
import pytest

import gemmule
from checkpoints import make_checkpoint, write_safetensors
from gemmule import progress
from gemmule.conversion.report import ConvertReport
from gemmule.json_line import json_line
from gemmule.printable import printable, some
from gemmule.progress import Progress
from gemmule.reference import read_folder

# Escape, bell, a control sequence in one character, text from right to left, ends of lines, half a character.
HIDDEN = "\x1b[2J\x07\x9b31m\u202eowned\u2028\x7f\n\ud800"


def shows_all(text: str) -> bool:
    return "owned" in text and all(line.isprintable() for line in text.split("\n"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of a strange type, with a broken tensor of a strange name."""
    folder = make_checkpoint(tmp_path_factory.mktemp("strange") / "model", dtype="F32")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": HIDDEN[:-1]}))
    tensors = read_folder(folder) | {HIDDEN[:-1]: np.full(3, np.nan, np.float32)}
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_inspect(folder):
    found = gemmule.inspect(folder)
    assert found.model_type == HIDDEN[:-1]
    assert found.unknown == (HIDDEN[:-1],)
    assert str(found).count("owned") == 2
    assert shows_all(str(found))
    assert json.loads(found.to_json())["unknown"] == [HIDDEN[:-1]]
    assert found.to_json().isprintable()


def test_verify(folder):
    report = gemmule.verify(folder)
    assert [each.where for each in report.findings] == [HIDDEN[:-1]]
    assert shows_all(str(report))
    assert str(report.findings[0]).isprintable()
    assert json.loads(report.to_json())["findings"][0]["where"] == HIDDEN[:-1]
    assert report.to_json().isprintable()


def test_convert():
    report = ConvertReport(
        HIDDEN, HIDDEN, "bf16", bytes=0, tensors=(), left_out=(HIDDEN,), notes=(HIDDEN,), seconds=0.0
    )
    assert str(report).count("owned") == 4
    assert shows_all(str(report))


def test_the_progress_bar(monkeypatch):
    monkeypatch.setattr(progress, "is_shown", lambda wanted: wanted)
    monkeypatch.setattr(progress, "_DELAY_S", 0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress(2, "B") as bar:
        time.sleep(0.2)  # tqdm shows no more than ten a second
        bar.advance(1, HIDDEN)
        shown = sys.stderr.getvalue()
    assert shows_all(shown.replace("\r", "\n"))


def test_json_says_the_same():
    line = json_line({HIDDEN: [HIDDEN, "a \N{FOX FACE} \N{LATIN SMALL LETTER E WITH ACUTE}"]})
    assert line.isprintable()
    assert "\N{FOX FACE}" in line
    assert json.loads(line) == {HIDDEN: [HIDDEN, "a \N{FOX FACE} \N{LATIN SMALL LETTER E WITH ACUTE}"]}


@pytest.mark.parametrize("text", ["", "layers.0.mlp", "\N{FOX FACE} and \N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_what_is_seen_stays(text):
    assert printable(text) == text


def test_some_of_many_names():
    assert some(["a"]) == "a"
    assert some([*"abcde"]) == "a, b, c, d, e"
    assert some([*"abcdefg"]) == "a, b, c, d, e and 2 more"
