"""The reader of GGUF files: true files as the format's own library would read them, and one error for each lie."""

import random
import re
import struct

import pytest
from gemmule._core.testing import gguf

import hostile_gguf
from gemmule.errors import FormatError, ResourceError, UnsupportedError
from golden_cases import FIXTURES
from hostile import entry, mutate, write_safetensors
from hostile_gguf import ARRAY, BOOL, F32, F64, I32, LIES, ONE, REFUSED, STRING, TYPES, U16, U64, Array, Gguf, tensor

MODEL = FIXTURES / "gguf_dense" / "model-F16.gguf"


def test_reads_what_is_there():
    file = hostile_gguf.read(MODEL)
    keys, tensors = gguf(str(MODEL))
    assert [key for key, _ in keys] == sorted(file.keys)
    names = {number: name for name, (number, _, _) in TYPES.items()}
    assert tensors == [(t.name, names[t.type], tuple(reversed(t.dims)), len(t.data)) for t in file.tensors]


def test_our_writer_writes_true_files():
    assert hostile_gguf.read(MODEL).pack() == MODEL.read_bytes()


@pytest.mark.parametrize("version", [2, 3])
def test_types_of_values(tmp_path, version):
    keys = {
        "a.text": (STRING, "\u00e9"),
        "a.flags": (ARRAY, Array(BOOL, [True, False])),
        "a.numbers": (ARRAY, Array(I32, [1, -1])),
        "a.none": (ARRAY, Array(F32, [])),
        "a.texts": (ARRAY, Array(STRING, ["", "x"])),
        "a.real": (F64, 1.5),
        "a.size": (U64, 2**64 - 1),
        "a.short": (U16, 7),
    }
    path = Gguf(keys, version=version).write(tmp_path / "a")
    assert dict(gguf(str(path))[0]) == {
        "a.flags": "array of 2 bool",
        "a.none": "array of 0 f32",
        "a.numbers": "array of 2 i32",
        "a.real": "f64",
        "a.short": "u16",
        "a.size": "u64",
        "a.text": "string",
        "a.texts": "array of 2 string",
    }


@pytest.mark.parametrize(("number", "elements", "size"), TYPES.values(), ids=TYPES.keys())
def test_types_of_tensors(tmp_path, number, elements, size):
    path = Gguf(tensors=[tensor("t", [elements * 2, 3, 2], number, bytes(size * 12))]).write(tmp_path / "a")
    (found,) = gguf(str(path))[1]
    assert found[2:] == ((2, 3, elements * 2), size * 12)


@pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
def test_alignment(tmp_path, alignment):
    file = Gguf({"general.alignment": (U64, alignment)}, [ONE, tensor("b", [3], 0, bytes(12))], alignment=alignment)
    assert [name for name, *_ in gguf(str(file.write(tmp_path / "a")))[1]] == ["a", "b"]


def test_the_last_tensor_needs_no_padding(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(Gguf(tensors=[ONE]).pack()[:-24])
    assert gguf(str(path))[1] == [("a", "F32", (2,), 8)]


def test_a_tensor_without_dimensions_is_one_value(tmp_path):
    path = Gguf(tensors=[tensor(dims=[], data=bytes(4))]).write(tmp_path / "a")
    assert gguf(str(path))[1] == [("a", "F32", (), 4)]


@pytest.mark.parametrize(("file", "name", "message"), LIES.values(), ids=LIES.keys())
def test_lies(tmp_path, file, name, message):
    path = file.write(tmp_path / "lie.gguf")
    with pytest.raises(FormatError, match=message) as error:
        gguf(str(path))
    assert error.value.file == str(path)
    assert re.fullmatch(name, error.value.tensor or "")
    assert error.value.offset is not None
    assert error.value.expected
    assert error.value.found


@pytest.mark.parametrize(("file", "name", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_read(tmp_path, file, name, message):
    path = file.write(tmp_path / "new.gguf")
    with pytest.raises(UnsupportedError, match=message) as error:
        gguf(str(path))
    assert (error.value.file, error.value.tensor or "") == (str(path), name)
    assert error.value.remedy


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"GG", '"GG"'),
        (b"GGUF", "ends inside of the header"),
        (b"GGUF" + struct.pack("<IQ", 3, 0), "ends inside of the header"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE HTML>\n<html>", "HTML page"),
        (b"PK\x03\x04" + bytes(30), "ZIP archive"),
    ],
)
def test_files_that_are_something_else(tmp_path, data, message):
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=message) as error:
        gguf(str(path))
    assert error.value.file == str(path)
    assert error.value.remedy


def test_safetensors_by_the_name_of_gguf(tmp_path):
    path = write_safetensors(tmp_path / "model.gguf", {"a": entry("F32", [1], 0, 4)}, bytes(4))
    with pytest.raises(FormatError, match="found a safetensors file") as error:
        gguf(str(path))
    assert "folder" in error.value.remedy


SMALL = Gguf(
    {"a": (STRING, "text"), "b": (ARRAY, Array(STRING, ["x", "yz"])), "c": (ARRAY, Array(BOOL, [True]))},
    [ONE, tensor("block", [32, 2], 2, bytes(36))],
)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "a"
    whole = SMALL.pack()[:-28]  # without the padding at the end
    path.write_bytes(whole)
    gguf(str(path))
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            gguf(str(path))


def test_random_damage_is_read_or_refused(tmp_path):
    rng = random.Random(0)
    path = tmp_path / "a"
    whole = SMALL.pack()
    read = refused = 0
    for _ in range(2000):
        path.write_bytes(mutate(whole, rng, len(whole)) or b"x")
        try:
            tensors = gguf(str(path))[1]
        except (FormatError, UnsupportedError):
            refused += 1
            continue
        assert sum(size for *_, size in tensors) <= path.stat().st_size
        read += 1
    assert read > 20
    assert refused > 1000


def test_paths_that_are_no_file(tmp_path):
    for path in [tmp_path, tmp_path / "missing"]:
        with pytest.raises(ResourceError) as error:
            gguf(str(path))
        assert error.value.file == str(path)
