"""Names of files that are not UTF-8, as the system allows: Python has them with stand-ins for the odd bytes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gemmule
from chat_models import chat_folder
from golden_cases import FIXTURES

ODD = os.fsdecode(b"odd\xff\xc3")


@pytest.fixture
def places(tmp_path):
    """A folder and a file, each of such a name."""
    folder = shutil.copytree(FIXTURES / "dense", tmp_path / ODD)
    file = shutil.copy(FIXTURES / "gguf_dense" / "model-Q4_0.gguf", tmp_path / f"{ODD}.gguf")
    return [Path(folder), Path(file)]


def test_everything_that_takes_a_checkpoint(places, tmp_path):
    for place in places:
        model = gemmule.load(place)
        assert len(model.generate([5, 6], max_tokens=3, ignore_eos=True).tokens) == 3
        assert gemmule.inspect(place).path == str(place)
        assert gemmule.verify(place).ok
        assert gemmule.estimate(place).resident > 0
        target = tmp_path / f"{ODD} {place.name}.bf16.gguf"
        gemmule.convert(place, target, to="bf16", progress=False)
        assert gemmule.load(target).logits([5, 6]).shape == model.logits([5, 6]).shape
        with pytest.raises(gemmule.UnsupportedError):
            gemmule.load(place, mtp=place)


def test_errors_have_their_names(places):
    for place in places:
        file = place / "config.json" if place.is_dir() else place
        os.truncate(file, 20)
        with pytest.raises(gemmule.FormatError) as error:
            gemmule.load(place)
        assert error.value.file == str(file)
        assert r"odd\xff\xc3" in str(error.value)  # which a terminal can show


def test_tokenizers_and_chats(tmp_path):
    folder = chat_folder("mobile", tmp_path / ODD)
    model = gemmule.load(folder, trust_template=True)
    chat = model.chat()
    chat.send("A fox?", temperature=0, max_tokens=3, ignore_eos=True)
    chat.save(tmp_path / f"{ODD}.chat")
    assert model.load_chat(tmp_path / f"{ODD}.chat").messages == chat.messages
    assert gemmule.Tokenizer.from_pretrained(folder).encode("A fox?") == model.tokenizer.encode("A fox?")


@pytest.mark.parametrize("verb", ["inspect", "verify", "estimate"])
def test_command_line(verb, places):
    for place in places:
        child = subprocess.run(
            [sys.executable, "-m", "gemmule", verb, os.fsencode(place)], capture_output=True, timeout=60, check=False
        )
        assert (child.returncode, child.stderr) == (0, b"")
        assert b"odd" in child.stdout or verb != "inspect"
