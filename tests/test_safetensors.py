"""The reader of safetensors files and checkpoint folders: true files as the format's own library reads them, and one
error for each way a file can lie."""

import json
import os
import random
import resource

import numpy as np
import pytest
from gemmule._core.testing import safetensors
from safetensors import safe_open
from safetensors.numpy import save_file

from gemmule._core import Model
from gemmule.errors import FormatError, ResourceError, UnsupportedError
from hostile import mutate, tensors, write_folder, write_safetensors

CONFIG = {"model_type": "gemma4_text"}


def test_reads_what_the_library_reads(float_case):
    for path in float_case.folder.glob("*.safetensors"):
        with safe_open(path, "np") as file:
            slices = {name: file.get_slice(name) for name in list(file.keys())}
            want = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
        got = {name: (dtype, list(shape)) for name, dtype, shape, _ in safetensors(str(path))}
        assert got == want


def test_sizes_and_element_types(tmp_path):
    arrays = {
        "scalar": np.array(1.5, np.float32),
        "empty": np.zeros((3, 0, 2), np.int64),
        "half": np.ones((2, 3), np.float16),
        "bytes": np.arange(5, dtype=np.uint8),
        "double": np.ones(3),
        "flags": np.array([True, False]),
        "words": np.ones((2, 2), np.uint16),
    }
    save_file(arrays, tmp_path / "a.safetensors", metadata={"format": "np"})
    got = {name: (shape, size) for name, _, shape, size in safetensors(str(tmp_path / "a.safetensors"))}
    assert got == {name: (array.shape, array.nbytes) for name, array in arrays.items()}


def test_padding_after_the_header(tmp_path):
    text = json.dumps(tensors("a")) + " " * 13
    assert safetensors(str(write_safetensors(tmp_path / "a", text, bytes(4)))) == [("a", "F32", (1,), 4)]


def test_no_tensors(tmp_path):
    assert safetensors(str(write_safetensors(tmp_path / "a", {}))) == []


def test_every_truncation_is_refused(tmp_path):
    path = write_safetensors(tmp_path / "a", tensors("a", "b"), bytes(8))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            safetensors(str(path))


def test_random_damage_is_read_or_refused(tmp_path):
    rng = random.Random(0)
    path = write_safetensors(tmp_path / "a", {"__metadata__": {"format": "pt"}} | tensors("a", "b", "c"), bytes(12))
    whole = path.read_bytes()
    for _ in range(1000):
        path.write_bytes(mutate(whole, rng, len(whole)) or b"x")
        try:
            sizes = [size for *_, size in safetensors(str(path))]
        except FormatError:
            continue
        assert sum(sizes) <= len(whole)


def test_paths_that_are_no_file(tmp_path):
    for path in [tmp_path, tmp_path / "missing", tmp_path / "missing" / "a"]:
        with pytest.raises(ResourceError) as error:
            safetensors(str(path))
        assert error.value.file == str(path)


def load(folder) -> Model:
    return Model.load(str(folder), 1, 0, "auto", "auto")


def test_single_file_wins_over_an_index(tmp_path):
    """The index of this folder lies, and nobody reads it: the error is about the config."""
    folder = write_folder(tmp_path, {}, {"model.safetensors": tensors("a")}, {"a": "../a"})
    with pytest.raises(FormatError, match="model_type"):
        load(folder)


def test_folder_without_a_config(tmp_path):
    folder = write_folder(tmp_path, CONFIG, {"model.safetensors": tensors("a")})
    (folder / "config.json").unlink()
    with pytest.raises(FormatError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [("pytorch_model.bin", "pickle"), ("pytorch_model-00001-of-00002.bin", "pickle")],
)
def test_weights_of_another_format(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsupportedError, match=message) as error:
        load(tmp_path)
    assert "safetensors" in error.value.remedy


def test_gguf_beside_a_config(tmp_path):
    (tmp_path / "model-Q4_0.gguf").write_bytes(b"x")
    with pytest.raises(FormatError, match="GGUF files, but no safetensors") as error:
        load(tmp_path)
    assert "path of the GGUF file" in error.value.remedy


def test_missing_folder(tmp_path):
    with pytest.raises(ResourceError) as error:
        load(tmp_path / "missing")
    assert error.value.file == str(tmp_path / "missing")


def test_too_many_open_files(float_case):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = os.open("/dev/null", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 1, hard))  # descriptors are given from the lowest on
    try:
        with pytest.raises(ResourceError, match="Too many open files") as error:
            load(float_case.folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(held)
    assert "ulimit -n" in error.value.remedy
