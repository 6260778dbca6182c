"""What a failed download leaves in the place of any file of a checkpoint is recognised, and the file is named."""

import shutil

import pytest

import gemmule
from gemmule.checkpoints.checkpoint import find
from golden_cases import FIXTURES

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3388\n"
STAND_INS = {"Git LFS pointer": POINTER, "HTML page": b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>\n"}

FILES = [
    ("fairy", "config.json"),
    ("fairy", "model.safetensors"),
    ("fairy", "generation_config.json"),
    ("fairy", "tokenizer.json"),
    ("fairy", "tokenizer_config.json"),
    ("fairy", "chat_template.jinja"),
    ("e2b", "model.safetensors.index.json"),
    ("e2b", "model-00003-of-00005.safetensors"),
    ("gguf_dense", "model-F16.gguf"),
]


@pytest.mark.parametrize(("name", "file"), FILES)
@pytest.mark.parametrize("found", STAND_INS)
def test_every_file(tmp_path, name, file, found):
    folder = tmp_path / name
    shutil.copytree(find("fairy") if name == "fairy" else FIXTURES / name, folder)
    (folder / file).write_bytes(STAND_INS[found])
    with pytest.raises(gemmule.FormatError, match=f"was not downloaded.*{found}") as error:
        gemmule.load(folder / file if name.startswith("gguf") else folder).tokenizer.encode("Once")
    assert error.value.file == str(folder / file)
    assert "download" in error.value.remedy.lower()


@pytest.mark.parametrize("look", [gemmule.inspect, gemmule.estimate, gemmule.verify])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_looking_at_a_checkpoint(tmp_path, look, file):
    folder = tmp_path / "fairy"
    shutil.copytree(find("fairy"), folder)
    (folder / file).write_bytes(POINTER)
    with pytest.raises(gemmule.FormatError, match="was not downloaded") as error:
        look(folder)
    assert error.value.file == str(folder / file)


def test_an_empty_file(tmp_path):
    folder = tmp_path / "fairy"
    shutil.copytree(find("fairy"), folder)
    for file in ("generation_config.json", "config.json"):
        (folder / file).write_bytes(b"")
        with pytest.raises(gemmule.FormatError, match="empty") as error:
            gemmule.load(folder)
        assert error.value.file == str(folder / file)
