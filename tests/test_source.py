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
        counts = source.encode(tensor, encoding, "recover", file.fileno(), 5, False)
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
        assert counts[:4] == (values.size, values.size, 0, 0)
        assert counts[4] == pytest.approx(float(np.square(values, dtype=np.float64).sum()), rel=1e-12)
        assert counts[5] == 0


def test_rounding_is_counted(tmp_path):
    source = _core.Source(str(FIXTURES / "mobile"), 1)
    names = [tensor[0] for tensor in source.tensors()]
    number = names.index("layers.0.self_attn.q_proj.weight")
    _, _, encoding, input_scale, output_scale = source.tensors()[number]
    assert encoding == "c4"
    assert min(input_scale, output_scale) > 0
    rows = source.rows(number, 0, source.tensors()[number][1][0])
    data, (elements, on_grid, _, _, squares, error) = encode(source, number, "bf16", tmp_path / "data")
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
        encode(source, number, "q8_0", tmp_path / "data")
    assert error.value.tensor == "layers.1.mlp.up_proj.weight"
    assert error.value.file == str(tmp_path / "model.safetensors")
    with (tmp_path / "data").open("wb") as file:
        counts = source.encode(number, "f16", "recover", file.fileno(), 0, True)
    spoiled[3, 7] = 0
    assert counts[3] == 1
    assert counts[4] == pytest.approx(float(np.square(spoiled, dtype=np.float64).sum()), rel=1e-12)
    assert (tmp_path / "data").read_bytes() == spoiled.astype(np.float16).tobytes()


def encode_codes(source, tensor, encoding, rule, scale_type, scales, path) -> bytes:
    with path.open("wb") as file:
        source.encode_codes(tensor, encoding, rule, scale_type, scales, file.fileno(), 0, False)
    return path.read_bytes()


def test_codes_and_their_scales(tmp_path):
    """As the kernels find and pack them; packed ones are copied, unless scales are given."""
    source = _core.Source(str(FIXTURES / "e2b"), 3)
    number = [tensor[0] for tensor in source.tensors()].index("layers.0.mlp.gate_proj.weight")
    rows = source.rows(number, 0, source.tensors()[number][1][0])
    for encoding, groups, scale_type in (("c2", 1, "f32"), ("c4", 1, "f32"), ("c8", 4, "f32"), ("g4", 2, "bf16")):
        for rule in ("absmax", "search", "recover"):
            scales = np.zeros((len(rows), groups), np.float32)
            data = encode_codes(source, number, encoding, rule, scale_type, scales, tmp_path / "data")
            wanted = _core.testing.find_scales(rows, rule, encoding, "bf16", scale_type, groups)
            assert np.array_equal(scales, wanted)
            packed, _ = _core.testing.encode_codes(rows, encoding, "bf16", wanted)
            assert data == packed.tobytes()
            given = (wanted * np.float32(1.5)).astype(np.float32)
            kept = given.copy()
            data = encode_codes(source, number, encoding, "given", scale_type, given, tmp_path / "data")
            assert np.array_equal(given, kept)
            assert data == _core.testing.encode_codes(rows, encoding, "bf16", given)[0].tobytes()


def test_codes_that_are_there_are_copied(tmp_path):
    stored = read_folder(FIXTURES / "mobile_absmax")
    source = _core.Source(str(FIXTURES / "mobile_absmax"), 2)
    for number, (name, shape, encoding, *_) in enumerate(source.tensors()):
        if not encoding.startswith("c"):
            continue
        is_table = name.startswith("embed")
        module = (PREFIX if name.startswith(("layers", "embed")) else "") + name.removesuffix(".weight")
        wanted = stored[module + (".embedding_quantized" if is_table else ".weight")]
        own = stored[module + (".embedding_scale" if is_table else ".weight_scale")]
        for groups in {own.shape[1], 2 * own.shape[1]}:
            if shape[1] % (4 * groups):
                continue
            scales = np.zeros((shape[0], groups), np.float32)
            data = encode_codes(source, number, encoding, "absmax", "f32", scales, tmp_path / "data")
            assert data == wanted.tobytes()
            assert np.array_equal(scales, np.repeat(own, groups // own.shape[1], axis=1))


@pytest.mark.parametrize(
    ("encoding", "rule", "scale_type", "shape"),
    [
        ("q4_0", "absmax", "f32", (96, 1)),
        ("c4", "best", "f32", (96, 1)),
        ("c4", "absmax", "f16", (96, 1)),
        ("c4", "absmax", "f32", (96, 3)),
        ("c4", "absmax", "f32", (95, 1)),
        ("c4", "absmax", "f32", (96, 64)),
        ("g4", "absmax", "f32", (96, 1)),
        ("c4", "absmax", "f32", (0, 1)),
    ],
)
def test_codes_that_cannot_be_written(tmp_path, encoding, rule, scale_type, shape):
    source = _core.Source(str(FIXTURES / "e2b"), 1)
    number = [tensor[0] for tensor in source.tensors()].index("layers.0.mlp.gate_proj.weight")
    assert source.tensors()[number][1] == (96, 64)
    with pytest.raises(gemmule.ArgumentError):
        encode_codes(source, number, encoding, rule, scale_type, np.zeros(shape, np.float32), tmp_path / "data")


def test_a_file_that_cannot_be_written():
    source = _core.Source(str(FIXTURES / "e2b"), 1)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(gemmule.ResourceError, match="No space left"):
            source.encode(0, "f32", "recover", full, 0, False)
    finally:
        os.close(full)
