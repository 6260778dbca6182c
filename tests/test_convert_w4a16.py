"""Converting to compressed-tensors' groups of 32, and between them and Q4_0."""

from dataclasses import replace

import numpy as np
import pytest

import gemmule
import hostile_gguf
from checkpoints import make_checkpoint
from gemmule.reference import read_folder
from golden_cases import FIXTURES

IDS = np.random.default_rng(5).integers(3, 600, 60).astype(np.int32)
CT = FIXTURES / "ct_w4a16"


def groups(report) -> list:
    return [tensor for tensor in report.tensors if tensor.stored == "w4a16"]


def test_a_packed_checkpoint_stays_what_it_is(tmp_path):
    gemmule.convert(CT, tmp_path / "a", to="w4a16")
    wanted, found = read_folder(CT), read_folder(tmp_path / "a")
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype
        assert np.array_equal(found[name], values), name


def test_groups_become_blocks_and_groups_again(tmp_path):
    """Every one of them."""
    report = gemmule.convert(CT, tmp_path / "a.gguf", to="q4_0")
    blocks = [tensor for tensor in report.tensors if tensor.stored == "q4_0"]
    assert len(blocks) > 50
    assert {tensor.on_grid for tensor in blocks} == {1.0}
    again = gemmule.convert(tmp_path / "a.gguf", tmp_path / "a", to="w4a16")
    assert len(groups(again)) == len(blocks)
    assert {tensor.on_grid for tensor in groups(again)} == {1.0}
    for path in (tmp_path / "a.gguf", tmp_path / "a"):
        gemmule.convert(path, tmp_path / f"{path.name}-bf16", to="bf16")
    wanted, found = (read_folder(tmp_path / f"{name}-bf16") for name in ("a.gguf", "a"))
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)


def with_scales(tensor: hostile_gguf.Tensor, change) -> hostile_gguf.Tensor:
    if tensor.type != hostile_gguf.TYPES["Q4_0"][0]:
        return tensor
    data = np.frombuffer(tensor.data, np.uint8).reshape(-1, 18).copy()
    data[:, :2] = change(data[:, :2].copy().view(np.float16)).astype(np.float16).view(np.uint8)
    return replace(tensor, data=data.tobytes())


def test_blocks_become_groups_where_the_scale_fits(tmp_path):
    """A float16 has three bits more than a bfloat16; its sign is kept where a code -8 needs it."""
    file = hostile_gguf.read(FIXTURES / "gguf_e2b" / "model-Q4_0-pure.gguf")

    def share(name, change) -> float:
        tensors = [with_scales(tensor, change) for tensor in file.tensors]
        source = replace(file, tensors=tensors).write(tmp_path / f"{name}.gguf")
        report = groups(gemmule.convert(source, tmp_path / name, to="w4a16"))
        return sum(tensor.on_grid * tensor.parameters for tensor in report) / sum(t.parameters for t in report)

    def rounded(scales):
        bits = scales.astype(np.float32).view(np.uint32)
        return (bits & np.uint32(0xFFFF0000)).view(np.float32)

    assert share("fits", rounded) == 1.0
    assert share("other_sign", lambda scales: -rounded(scales)) == 1.0
    assert 0.1 < share("rarely", lambda scales: np.full_like(scales, 0.01234)) + 0.5 < 0.6


def test_rows_of_4_bits_become_groups_with_the_same_codes(tmp_path):
    """But for the scales, which have 8 bits there."""
    report = gemmule.convert("fairy", tmp_path / "a", to="w4a16")
    rows = [tensor for tensor in groups(report) if tensor.source in ("2-bit", "4-bit")]
    assert len(rows) > 40
    assert max(tensor.relative_error for tensor in rows) < 2**-8
    assert max(tensor.saturated for tensor in rows) == 0


def test_what_is_packed(tmp_path):
    report = gemmule.convert(FIXTURES / "e2b", tmp_path / "a", to="w4a16")
    names = {tensor.name for tensor in groups(report)}
    assert all(name.endswith(".weight_packed") for name in names)
    kinds = {tensor.kind for tensor in groups(report)}
    assert kinds == {"attention", "mlp", "per-layer inputs", "leftovers"}
    exact, packed = (gemmule.load(path, activations="float32") for path in (FIXTURES / "e2b", tmp_path / "a"))
    assert 0 < np.abs(packed.logits(IDS) - exact.logits(IDS)).mean() < 3
    assert gemmule.verify(tmp_path / "a").ok


def test_rows_that_do_not_divide_into_groups(tmp_path):
    folder = make_checkpoint(tmp_path / "source", hidden_size=48, hidden_size_per_layer_input=16)
    with pytest.raises(gemmule.UnsupportedError, match="groups of 32") as error:
        gemmule.convert(folder, tmp_path / "a", to="w4a16")
    assert error.value.tensor
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
