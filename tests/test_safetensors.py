"""The reader of safetensors files and checkpoint folders: true files as the format's own library reads them, and one
error for each way a file can lie."""

import json
import random
import struct

import numpy as np
import pytest
from gemmule._core.testing import safetensors
from safetensors import safe_open
from safetensors.numpy import save_file

from gemmule._core import Model
from gemmule.errors import FormatError, ResourceError, UnsupportedError
from hostile import entry, mutate, tensors, write_folder, write_safetensors

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


F8 = entry("F32", [2], 0, 8)

# Each lie: header, bytes after it, and what the message says.
LIES = {
    "no object": ("[]", b"", "no JSON object"),
    "an empty header": ("", b"", "no JSON object"),
    "space before the header": (" {}", b"", "no JSON object"),
    "broken JSON": ('{"a":', b"", "not JSON"),
    "text after the header": ("{} x", b"", "follows"),
    "a zero byte as padding": ("{}\0", b"", "follows"),
    "a tensor twice": ('{"a":1,"a":2}', b"", "twice"),
    "metadata that is no object": ({"__metadata__": []}, b"", "__metadata__.*wrong type"),
    "metadata that is no text": ({"__metadata__": {"a": 1}}, b"", "__metadata__.a.*wrong type"),
    "an entry that is no object": ({"a": 1}, b"", "a: .*wrong type"),
    "no dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8), 'missing.*"dtype"'),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8), 'missing.*"shape"'),
    "no offsets": ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8), 'missing.*"data_offsets"'),
    "one key more": ({"a": F8 | {"strides": [4]}}, bytes(8), 'unknown key.*"strides"'),
    "an unknown dtype": ({"a": F8 | {"dtype": "F31"}}, bytes(8), 'unknown element type.*"F31"'),
    "a dtype that is no text": ({"a": F8 | {"dtype": 32}}, bytes(8), "dtype.*wrong type"),
    "a shape that is no array": ({"a": F8 | {"shape": 2}}, bytes(8), "shape.*wrong type"),
    "a size that is text": ({"a": F8 | {"shape": ["2"]}}, bytes(8), r"shape\[0\].*wrong type"),
    "a size that is no integer": ({"a": F8 | {"shape": [2.0]}}, bytes(8), r"shape\[0\].*wrong type"),
    "a negative size": ({"a": F8 | {"shape": [-1, -2]}}, bytes(8), "negative"),
    "a shape that overflows": ({"a": F8 | {"shape": [1 << 62, 1 << 62]}}, bytes(8), "cannot be counted"),
    "bytes that overflow": ({"a": F8 | {"shape": [1 << 62]}}, bytes(8), "cannot be counted"),
    "half a byte": ({"a": entry("F4", [3], 0, 1)}, bytes(1), "cannot be counted"),
    "three offsets": ({"a": F8 | {"data_offsets": [0, 4, 8]}}, bytes(8), "wrong data_offsets"),
    "a negative offset": ({"a": F8 | {"data_offsets": [-8, 0]}}, bytes(8), "negative"),
    "an offset beyond int64": ({"a": F8 | {"data_offsets": [0, 1 << 64]}}, bytes(8), "wrong type"),
    "an end before the begin": ({"a": F8 | {"data_offsets": [8, 0]}}, bytes(8), "before they begin"),
    "an end outside the file": ({"a": F8}, bytes(7), "outside the file"),
    "offsets that do not fit the shape": ({"a": F8 | {"shape": [3]}}, bytes(8), "do not fit.*12 bytes.*8 bytes"),
    "offsets that do not fit the dtype": ({"a": F8 | {"dtype": "F16"}}, bytes(8), "do not fit"),
    "an overlap": ({"a": F8, "b": entry("F32", [2], 4, 12)}, bytes(12), 'b: .*overlaps.*"a"'),
    "the same bytes twice": ({"a": F8, "b": F8}, bytes(8), "overlaps"),
    "a hole": ({"a": F8, "b": entry("F32", [1], 12, 16)}, bytes(16), "b: bytes before"),
    "a hole at the start": ({"a": entry("F32", [1], 4, 8)}, bytes(8), "a: bytes before"),
    "bytes after the last tensor": ({"a": F8}, bytes(9), "after the last tensor"),
    "bytes without any tensor": ({}, bytes(1), "after the last tensor"),
}


@pytest.mark.parametrize(("header", "data", "message"), LIES.values(), ids=LIES.keys())
def test_lies(tmp_path, header, data, message):
    path = write_safetensors(tmp_path / "lie.safetensors", header, data)
    with pytest.raises(FormatError, match=message) as error:
        safetensors(str(path))
    assert error.value.file == str(path)
    assert error.value.offset is not None
    assert error.value.expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\2\0\0\0\0\0\0", "too short"),
        (struct.pack("<Q", 3) + b"{}", "longer than the file"),
        (struct.pack("<Q", 100_000_001) + b"{}", "longer than the format allows"),
        (b"\xff" * 8 + b"{}", "longer than the format allows"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE HTML>\n<html>", "HTML page"),
        (b"<html><body>Not found</body></html>", "HTML page"),
    ],
)
def test_files_that_are_something_else(tmp_path, data, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=message) as error:
        safetensors(str(path))
    assert error.value.file == str(path)
    assert error.value.remedy


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


# Each folder that lies: files, weight_map, and what the message says.
FOLDER_LIES = {
    "no weights": ({}, None, "no weights"),
    "a shard outside": ({"a": tensors("a")}, {"a": "../a"}, "plain file name"),
    "a shard in a folder": ({"a": tensors("a")}, {"a": "sub/a"}, "plain file name"),
    "a shard by a whole path": ({"a": tensors("a")}, {"a": "/etc/passwd"}, "plain file name"),
    "the folder above as shard": ({"a": tensors("a")}, {"a": ".."}, "plain file name"),
    "a shard without a name": ({"a": tensors("a")}, {"a": ""}, "plain file name"),
    "a shard's name with a zero byte": ({"a": tensors("a")}, {"a": "a\0b"}, "plain file name"),
    "a shard's name that is no text": ({"a": tensors("a")}, {"a": 1}, "wrong type"),
    "an index without tensors": ({"a": tensors("a")}, {}, "lists no tensor"),
    "a shard that is missing": ({"a": tensors("a")}, {"a": "a", "b": "b"}, "shard that the index names is missing"),
    "a tensor that is missing": ({"a": tensors("a")}, {"a": "a", "b": "a"}, "b: .*lists is missing"),
    "a tensor that is not listed": ({"a": tensors("a", "b")}, {"a": "a"}, "b: .*does not list"),
    "a tensor in another shard": (
        {"a": tensors("a", "b"), "c": tensors("c")},
        {"a": "a", "b": "c", "c": "c"},
        "b: .*not in the shard",
    ),
    "a tensor in two shards": ({"a": tensors("a"), "b": tensors("b", "a")}, {"a": "a", "b": "b"}, "a: .*two files"),
}


@pytest.mark.parametrize(("files", "weight_map", "message"), FOLDER_LIES.values(), ids=FOLDER_LIES.keys())
def test_folders_that_lie(tmp_path, files, weight_map, message):
    folder = write_folder(tmp_path / "folder", CONFIG, files, weight_map)
    with pytest.raises(FormatError, match=message) as error:
        load(folder)
    assert error.value.file.startswith(str(folder))


def test_index_without_a_map(tmp_path):
    folder = write_folder(tmp_path, CONFIG, {})
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(FormatError, match="weight_map"):
        load(folder)


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
