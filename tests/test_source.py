"""Checkpoints opened to be converted: which tensors there are, and their rows written out."""

import os

import numpy as np
import pytest

import gemmule
import hostile_gguf
from checkpoints import make_checkpoint, write_safetensors
from gemmule import _core
from gemmule.reference import read_folder
from gemmule.reference.safetensors import f32_to_bf16
from golden_cases import FIXTURES

PREFIX = "model.language_model."


def encode(source: _core.Source, tensor: int, encoding: str, path) -> tuple[bytes, tuple]:
    with path.open("wb") as file:
        counts = source.encode(tensor, encoding, "recover", file.fileno(), 5)
    return path.read_bytes()[5:], counts


@pytest.mark.parametrize("name", ["e2b", "e4b", "dense", "moe"])
def test_every_tensor_of_a_folder(tmp_path, name):
    source = _core.Source(str(FIXTURES / name), 2)
    wanted = read_folder(FIXTURES / name)
    prefix = PREFIX if PREFIX + "norm.weight" in wanted else "model."
    tensors = source.tensors()
    assert {prefix + tensor for tensor, *_ in tensors} == set(wanted)
    for number, (tensor, shape, _, input_scale, output_scale) in enumerate(tensors):
        values = wanted[prefix + tensor]
        assert shape == values.shape
        assert (input_scale, output_scale) == (0, 0)
        rows = values.reshape(-1, values.shape[-1])
        assert np.array_equal(source.rows(number, 0, len(rows)), rows)
        data, counts = encode(source, number, "bf16", tmp_path / "data")
        assert data == f32_to_bf16(values.astype(np.float32)).tobytes()
        assert counts[:3] == (values.size, values.size, 0)
        assert counts[3] == pytest.approx(float(np.square(values, dtype=np.float64).sum()))
        assert counts[4] == 0


def test_rounding_is_counted(tmp_path):
    source = _core.Source(str(FIXTURES / "mobile"), 1)
    names = [tensor[0] for tensor in source.tensors()]
    number = names.index("layers.0.self_attn.q_proj.weight")
    _, _, encoding, input_scale, output_scale = source.tensors()[number]
    assert encoding == "c4"
    assert min(input_scale, output_scale) > 0
    rows = source.rows(number, 0, source.tensors()[number][1][0])
    data, (elements, on_grid, _, squares, error) = encode(source, number, "bf16", tmp_path / "data")
    back = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(rows.shape)
    assert np.array_equal(f32_to_bf16(back), f32_to_bf16(rows))
    assert (elements, on_grid) == (rows.size, (back == rows).sum())
    assert error == pytest.approx(float(np.square(back - rows.astype(np.float64)).sum()))
    assert squares == pytest.approx(float(np.square(rows, dtype=np.float64).sum()))


def test_blocks_are_copied_as_they_are(tmp_path):
    path = FIXTURES / "gguf_e2b" / "model-Q4_0.gguf"
    source = _core.Source(str(path), 1)
    number = [tensor[0] for tensor in source.tensors()].index("layers.0.self_attn.q_proj.weight")
    (stored,) = [tensor for tensor in hostile_gguf.read(path).tensors if tensor.name == "blk.0.attn_q.weight"]
    assert encode(source, number, "q4_0", tmp_path / "data")[0] == stored.data


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named(tmp_path, value):
    make_checkpoint(tmp_path, dtype="F32")
    tensors = read_folder(tmp_path)
    spoiled = tensors[PREFIX + "layers.1.mlp.up_proj.weight"].copy()
    spoiled[3, 7] = value
    write_safetensors(tmp_path / "model.safetensors", tensors | {PREFIX + "layers.1.mlp.up_proj.weight": spoiled})
    source = _core.Source(str(tmp_path), 1)
    number = [tensor[0] for tensor in source.tensors()].index("layers.1.mlp.up_proj.weight")
    with pytest.raises(gemmule.FormatError, match="row 3, column 7") as error:
        encode(source, number, "f32", tmp_path / "data")
    assert error.value.tensor == "layers.1.mlp.up_proj.weight"
    assert error.value.file == str(tmp_path / "model.safetensors")


def test_a_file_that_cannot_be_written():
    source = _core.Source(str(FIXTURES / "e2b"), 1)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(gemmule.ResourceError, match="No space left"):
            source.encode(0, "f32", "recover", full, 0)
    finally:
        os.close(full)
