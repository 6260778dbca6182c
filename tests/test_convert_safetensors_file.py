"""safetensors files laid out by gemmule are those that the safetensors package writes."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save

import gemmule
from checkpoints import make_checkpoint
from gemmule.conversion.safetensors_file import INDEX, StTensor, index_of, lay_out
from gemmule.reference.safetensors import read_folder

NUMPY = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64}


def pack(layout, arrays) -> bytes:
    """The whole file."""
    content = bytearray(layout.size)
    content[: len(layout.header)] = layout.header
    for name, begin in layout.offsets.items():
        data = arrays[name].tobytes()
        content[begin : begin + len(data)] = data
    assert len(content) == layout.size
    return bytes(content)


def arrays_of(shapes) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.integers(0, 100, shape).astype(NUMPY[dtype]) for name, (dtype, shape) in shapes.items()}


def tensors_of(shapes) -> list[StTensor]:
    return [StTensor(name, dtype, shape) for name, (dtype, shape) in shapes.items()]


def test_the_same_bytes_as_the_package():
    shapes = {
        "z": ("U8", (3, 5)),
        "a": ("U8", (7,)),
        "scalar": ("F32", ()),
        "i8": ("I8", (1,)),
        "f16": ("F16", (3,)),
        "f32": ("F32", (2, 2)),
        "i32": ("I32", (5,)),
        "shape": ("I64", (2,)),
        "ünïcode": ("F32", (1,)),
    }
    arrays = arrays_of(shapes)
    (layout,) = lay_out(tensors_of(shapes), 10**9)
    assert layout.file == "model.safetensors"
    assert pack(layout, arrays) == save(arrays, metadata={"format": "pt"})


def test_bfloat16():
    (layout,) = lay_out([StTensor("a", "BF16", (3,)), StTensor("b", "F32", (1,)), StTensor("c", "F16", (1,))], 10**9)
    start = len(layout.header)
    assert start % 8 == 0
    assert layout.offsets == {"b": start, "a": start + 4, "c": start + 10}
    entries = json.loads(layout.header[8:])
    assert entries["__metadata__"] == {"format": "pt"}
    assert entries["a"] == {"dtype": "BF16", "shape": [3], "data_offsets": [4, 10]}
    assert layout.size == start + 12


@pytest.mark.parametrize("count", range(12))
def test_headers_of_any_length(count):
    (layout,) = lay_out([StTensor("a" * (count + 1), "U8", (1,))], 10**9)
    assert len(layout.header) % 8 == 0
    assert pack(layout, {"a" * (count + 1): np.uint8([7])}) == save(
        {"a" * (count + 1): np.uint8([7])}, {"format": "pt"}
    )


def test_shards(tmp_path):
    shapes = {"c": ("F32", (25,)), "a": ("U8", (150,)), "big": ("I8", (300,)), "b": ("F16", (100,)), "d": ("I8", (1,))}
    arrays, tensors = arrays_of(shapes), tensors_of(shapes)
    layouts = lay_out(tensors, 250)
    assert [layout.file for layout in layouts] == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert [set(layout.offsets) for layout in layouts] == [{"a", "c"}, {"big"}, {"b", "d"}]
    for layout in layouts:
        (tmp_path / layout.file).write_bytes(pack(layout, arrays))
        assert load_file(tmp_path / layout.file).keys() == layout.offsets.keys()
    index = json.loads(index_of(layouts, tensors))
    assert index["metadata"] == {"total_size": 100 + 150 + 300 + 200 + 1}
    assert index["weight_map"] == {name: layout.file for layout in layouts for name in layout.offsets}
    assert list(index["weight_map"]) == sorted(shapes)


def test_a_tensor_larger_than_a_shard():
    layouts = lay_out([StTensor("big", "U8", (300,)), StTensor("a", "U8", (1,))], 250)
    assert [list(layout.offsets) for layout in layouts] == [["big"], ["a"]]


def test_a_single_file_has_no_index():
    tensors = [StTensor("a", "U8", (150,))]
    assert index_of(lay_out(tensors, 150), tensors) is None
    assert index_of(lay_out(tensors * 2, 150), tensors) is not None


def test_the_engine_reads_shards(tmp_path):
    source = make_checkpoint(tmp_path / "source", dtype="F32")
    arrays = read_folder(source)
    tensors = [StTensor(name, "F32", array.shape) for name, array in arrays.items()]
    layouts = lay_out(tensors, 40_000)
    assert len(layouts) > 2
    target = tmp_path / "target"
    target.mkdir()
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    for layout in layouts:
        (target / layout.file).write_bytes(pack(layout, arrays))
    (target / INDEX).write_bytes(index_of(layouts, tensors))
    ids = np.arange(5, 25, dtype=np.int32)
    assert np.array_equal(gemmule.load(target).logits(ids), gemmule.load(source).logits(ids))
