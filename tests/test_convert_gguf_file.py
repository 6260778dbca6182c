"""GGUF files laid out by gemmule are those that llama.cpp's own tools write, byte for byte."""

import struct

import pytest

import gemmule
import hostile_gguf
from gemmule.conversion import gguf_file
from gemmule.conversion.gguf_file import GgufTensor, Kind, Value, lay_out, read_metadata
from gguf_models import make_gguf
from gguf_with import tensors_of, with_metadata
from golden_cases import FIXTURES

FILES = [
    "gguf_e2b/model-Q4_0-pure.gguf",
    "gguf_dense/model-BF16.gguf",
    "gguf_moe/model-Q8_0.gguf",
    "gguf_kquant/model-Q5_K_M.gguf",
]


@pytest.mark.parametrize("name", FILES)
def test_the_same_bytes_as_the_reference_library(name, tmp_path):
    source = FIXTURES / name
    assert with_metadata(tmp_path / "a", source, read_metadata(source)).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_metadata_as_an_independent_reader_sees_it(name):
    want = hostile_gguf.read(FIXTURES / name).keys
    got = read_metadata(FIXTURES / name)
    assert list(got) == list(want)
    for key, (kind, value) in want.items():
        if kind == hostile_gguf.ARRAY:
            assert got[key] == Value(Kind(value.kind), value.items)
        else:
            assert got[key] == Value(Kind(kind), value)


def test_every_kind_of_value(tmp_path):
    more = {
        "u8": Value(Kind.U8, 255),
        "i8": Value(Kind.I8, -128),
        "u16": Value(Kind.U16, 65535),
        "i16": Value(Kind.I16, -32768),
        "u32": Value(Kind.U32, 2**32 - 1),
        "i32": Value(Kind.I32, -(2**31)),
        "f32": Value(Kind.F32, 0.5),
        "bool": Value(Kind.BOOL, True),
        "string": Value(Kind.STRING, "\u2581 a"),
        "bytes": Value(Kind.STRING, b"\xff\xfe".decode(errors="surrogateescape")),
        "u64": Value(Kind.U64, 2**64 - 1),
        "i64": Value(Kind.I64, -(2**63)),
        "f64": Value(Kind.F64, 0.1),
        "strings": Value(Kind.STRING, ["", "a", "\u2581"]),
        "numbers": Value(Kind.I32, [1, -2, 3]),
        "flags": Value(Kind.BOOL, [True, False]),
        "nothing": Value(Kind.F32, []),
    }
    source = FIXTURES / FILES[0]
    metadata = read_metadata(source) | more
    path = with_metadata(tmp_path / "a.gguf", source, metadata)
    assert read_metadata(path) == metadata
    file = hostile_gguf.read(source)
    for key, value in more.items():
        file.keys[key] = (value.kind, value.data)
        if isinstance(value.data, list):
            file.keys[key] = (hostile_gguf.ARRAY, hostile_gguf.Array(value.kind, value.data))
    file.keys["bytes"] = (hostile_gguf.STRING, struct.pack("<Q", 2) + b"\xff\xfe")
    assert path.read_bytes() == file.pack()


def test_tensors_lie_behind_each_other_aligned():
    tensors = [
        GgufTensor("a", "F32", (3,), 12),
        GgufTensor("b", "Q4_0", (2, 64), 72),
        GgufTensor("c", "BF16", (2, 3, 5), 60),
    ]
    layout = lay_out({}, tensors)
    start = len(layout.header)
    assert start % 32 == 0
    assert layout.offsets == {"a": start, "b": start + 32, "c": start + 128}
    assert layout.size == start + 192


def test_any_part_stands_for_the_model(tmp_path):
    first = make_gguf(tmp_path, parts=3)
    assert "gemma4.block_count" in read_metadata(first)
    assert read_metadata(first.with_name("model-00003-of-00003.gguf")) == read_metadata(first)


def test_a_broken_file(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes((FIXTURES / FILES[0]).read_bytes()[:5000])
    with pytest.raises(gemmule.FormatError, match=r"a\.gguf"):
        read_metadata(path)


@pytest.mark.parametrize(
    ("shapes", "label"),
    [
        ([(4, 1000)], "4.0K"),
        ([(10, 1000)], "10K"),
        ([(94, 100), (60,)], "9.5K"),
        ([(95, 100), (490,)], "10K"),
        ([(999_000,)], "999K"),
        ([(1_000_001,)], "1.0M"),
        ([(5_104_000_000,)], "5.1B"),
        ([(30_700_000_000,)], "31B"),
        ([(2_000_000_000_000,)], "2.0T"),
    ],
)
def test_size_labels(shapes, label):
    assert gguf_file.size_label([GgufTensor(str(i), "F32", shape, 0) for i, shape in enumerate(shapes)]) == label


def test_size_label_of_experts():
    stack = GgufTensor("blk.0.ffn_down_exps.weight", "F32", (128, 1000, 2000), 0)
    scale = GgufTensor("blk.0.ffn_down_exps.scale", "F32", (128,), 0)
    assert gguf_file.size_label([stack, scale, GgufTensor("a", "F32", (1_000_000,), 0)]) == "128x3.0M"


@pytest.mark.parametrize(("name", "label"), [*zip(FILES, ["599K", "363K", "8x367K", "1.4M"], strict=True)])
def test_size_labels_of_the_converter(name, label):
    assert gguf_file.size_label(tensors_of(FIXTURES / name)) == label
    assert read_metadata(FIXTURES / name)["general.size_label"].data == label
