"""What a checkpoint holds: against the engine, against numpy, and as text, JSON and a figure."""

import dataclasses
import json
import math
import os
import sys

import numpy as np
import pytest

import gemmule
import hostile_gguf
from checkpoints import add_zeros, make_checkpoint, write_safetensors
from compressed_folders import repacked
from gemmule.checkpoints.code_usage import code_usage
from gemmule.checkpoints.contents import contents
from gemmule.checkpoints.tensors import CACHE_SCALE, INPUT_SCALE, OUTPUT_SCALE
from gemmule.command_line import cli
from gemmule.reference.operations import unpack_codes
from gemmule.reference.safetensors import read_file
from gguf_models import make_gguf
from golden_cases import FIXTURES
from hostile_gguf import STRING, TYPES, tensor
from memory_peak import peak_growth

GGUF = sorted(FIXTURES.glob("gguf_*/*.gguf"))
FOLDERS = ("e2b", "e4b", "dense", "moe", "mobile", "mobile_absmax", "ct_w4a16")
ALL = ["fairy", *(FIXTURES / name for name in FOLDERS), *GGUF]


def groups(inspection):
    return {group.kind: group for group in inspection.groups}


@pytest.fixture
def words(tmp_path):
    """A mobile checkpoint, and the same as rows of words of which the last is not full."""
    mobile = make_checkpoint(
        tmp_path / "mobile", mobile=True, dtype="F32", hidden_size=36, hidden_size_per_layer_input=12
    )
    return mobile, repacked(mobile, tmp_path / "words", words_of_bytes=True)


def test_rows_of_words(words):
    """Padding is no parameter and no code."""
    mobile, packed = map(gemmule.inspect, words)
    scales = packed.input_scales.count + packed.output_scales.count
    assert packed.parameters + scales == mobile.parameters + scales == gemmule.load(words[1]).info["parameters"]
    for kind, group in groups(mobile).items():
        if kind != "leftovers":  # scales of the cache, which only the mobile format has
            assert groups(packed)[kind].encodings == group.encodings
    usage = code_usage(words[1])
    for module, counts in code_usage(words[0]).items():
        assert np.array_equal(usage[module], counts), module


@pytest.mark.parametrize("path", ALL, ids=str)
def test_counts_are_those_of_the_engine(path):
    found, info = gemmule.inspect(path), gemmule.load(path).info
    assert found.model_type == info["model_type"]
    assert found.unknown == tuple(info["unknown_tensors"]) == ()
    assert found.leftovers == tuple(info["leftover_tensors"])
    used = [group for group in found.groups if group.kind not in ("towers", "leftovers")]
    # The engine counts the static scales that it reads among the parameters.
    in_use = [each for each in contents(path).all if each.kind not in ("towers", "leftovers")]
    scales = sum(each.elements for each in in_use if each.role in (INPUT_SCALE, OUTPUT_SCALE, CACHE_SCALE))
    assert sum(group.parameters for group in used) + scales == info["parameters"]
    assert found.bytes <= info["mapped_bytes"]
    assert sum(encoding.parameters for encoding in found.encodings) == found.parameters
    assert sum(group.weight_bytes + group.scale_bytes for group in found.groups) == found.bytes
    assert sum(group.tensors for group in found.groups) == found.tensors == sum(found.dtypes.values())
    in_layers = sum(sum(layer.values()) for layer in found.layer_bytes)
    others = ("head", "embeddings", "per-layer embeddings", "towers")
    assert (
        0 < in_layers < found.bytes - sum(groups(found)[kind].weight_bytes for kind in others if kind in groups(found))
    )


def test_bits_of_a_mobile_checkpoint():
    found = groups(gemmule.inspect("fairy"))
    assert found["head"].encodings.keys() == {"2-bit"}
    assert found["embeddings"].encodings.keys() == {"2-bit"}
    assert found["per-layer embeddings"].encodings.keys() == {"4-bit"}
    assert found["mlp"].encodings.keys() == {"2-bit", "4-bit"}
    assert found["per-layer inputs"].encodings.keys() == {"8-bit", "BF16"}
    assert found["norms and scalars"].bits == 16
    head = found["head"]
    assert (head.parameters, head.weight_bytes) == (4096 * 256, 4096 * 256 // 4)
    assert head.scale_bytes == 4096 * 4 + 2 * 4
    assert head.bits == pytest.approx(2 + (4096 * 32 + 64) / (4096 * 256))


def test_scales_are_counted_and_measured(tmp_path):
    folder = make_checkpoint(tmp_path / "scaled", mobile=True, zero_scales=True)
    tensors = read_file(folder / "model.safetensors")
    found = gemmule.inspect(folder)
    for what, ending in (("input", "input_activation_scale"), ("output", "output_activation_scale")):
        values = np.array([value for name, value in tensors.items() if name.endswith(ending)]).ravel()
        scales = getattr(found, what + "_scales")
        assert (scales.count, scales.zero) == (len(values), (values == 0).sum())
        assert scales.zero > 1
        assert (scales.least, scales.largest) == (values[values != 0].min(), values.max())
    assert found.cache_scales.count == 8
    assert "cache scales: 8, 0 of them zero" in str(found)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_json_has_no_nan(tmp_path, value):
    folder = make_checkpoint(tmp_path / "nan", mobile=True)
    file = folder / "model.safetensors"
    tensors = {name: np.asarray(each) for name, each in read_file(file).items()}
    scale = next(name for name in tensors if name.endswith("input_activation_scale"))
    write_safetensors(file, tensors | {scale: np.full_like(tensors[scale], value)})

    def refuse(found: str) -> None:
        raise AssertionError(found)

    said = json.loads(gemmule.inspect(folder).to_json(), parse_constant=refuse)
    assert said["input_scales"]["largest"] is None


def test_a_float_checkpoint_has_no_scales():
    scales = gemmule.inspect(FIXTURES / "dense").input_scales
    assert (scales.count, scales.zero, scales.least) == (0, 0, None)


def test_leftovers_towers_and_unknown_tensors(tmp_path):
    folder = make_checkpoint(tmp_path / "more", leftovers=True, towers=True)
    file = folder / "model.safetensors"
    tensors = {**read_file(file), "model.language_model.layers.0.surprise": np.zeros(3, np.float32)}
    write_safetensors(file, {name: np.asarray(value, np.float32) for name, value in tensors.items()})
    found, info = gemmule.inspect(folder), gemmule.load(folder).info
    assert found.unknown == tuple(info["unknown_tensors"]) == ("model.language_model.layers.0.surprise",)
    assert set(found.leftovers) == set(info["leftover_tensors"])
    assert groups(found)["towers"].tensors == len(info["skipped_tensors"]) == 3
    assert "surprise" in str(found)


def test_bits_of_packed_leftovers_come_from_the_config(tmp_path):
    folder = make_checkpoint(tmp_path / "more", mobile=True, leftovers=True)
    left = groups(gemmule.inspect(folder))["leftovers"]
    assert left.encodings.keys() == {"4-bit", "BF16"}
    # k_proj and v_proj of a sliding and a full layer: one head of 32 and of 64, from 64; and the norms of k.
    assert left.parameters == 2 * (32 + 64) * 64 + 32 + 64


def test_code_usage_is_what_the_codes_are():
    tensors = read_file(FIXTURES / "mobile_absmax" / "model.safetensors")
    usage = code_usage(FIXTURES / "mobile_absmax", rows=10**6)  # all rows
    for module, bits in (
        ("lm_head", 2),
        ("model.language_model.layers.0.self_attn.q_proj", 4),
        ("model.language_model.layers.0.per_layer_projection", 8),
    ):
        codes = unpack_codes(tensors[module + ".weight"], bits)
        lowest = -(2 ** (bits - 1))
        expected = np.bincount((codes.astype(int) - lowest).ravel(), minlength=2**bits)
        assert np.array_equal(usage[module], expected)
    few = code_usage(FIXTURES / "mobile_absmax", rows=3)
    assert 0 < few["lm_head"].sum() < usage["lm_head"].sum()
    assert few.keys() == usage.keys()


@pytest.mark.parametrize(
    ("path", "size"), [(FIXTURES / "mobile_absmax", 16), (FIXTURES / "gguf_kquant/model-Q4_K_M.gguf", 250)], ids=str
)
def test_code_usage_of_rows_in_parts(path, size, monkeypatch):
    whole = code_usage(path)
    monkeypatch.setattr(gemmule.checkpoints.tensors, "_PIECE_BYTES", size)
    parts = code_usage(path)
    assert parts.keys() == whole.keys()
    assert all(np.array_equal(parts[module], whole[module]) for module in whole)


def test_code_usage_takes_little_memory(tmp_path):
    """Of 100 MB of codes in one row."""
    size = 100_000_000
    folder = add_zeros(make_checkpoint(tmp_path), "codes", "U8", [size], size)
    counts = []
    assert peak_growth(lambda: counts.append(code_usage(folder)["codes"])) < 30e6
    assert counts[0][0] == size


@pytest.mark.parametrize("path", GGUF, ids=lambda path: path.stem)
def test_types_of_a_gguf_file(path):
    file = hostile_gguf.read(path)
    found = gemmule.inspect(path)
    weights = [each for each in file.tensors if each.name != "rope_freqs.weight"]
    types = {number: name for name, (number, _, _) in TYPES.items()}
    for encoding in found.encodings:
        alike = [each for each in weights if types[each.type] == encoding.name]
        elements, size = sum(math.prod(each.dims) for each in alike), sum(len(each.data) for each in alike)
        assert (encoding.tensors, encoding.parameters, encoding.bytes) == (len(alike), elements, size)
    assert {encoding.name for encoding in found.encodings} == {types[each.type] for each in weights}
    sizes = [each.parameters for each in found.encodings]
    assert sizes == sorted(sizes, reverse=True)
    for layer, size in enumerate(found.layer_bytes):
        of_layer = [each for each in file.tensors if each.name.startswith(f"blk.{layer}.")]
        assert sum(size.values()) == sum(len(each.data) for each in of_layer)


def test_kinds_of_a_gguf_file():
    path = FIXTURES / "gguf_e2b" / "model-Q4_0-pure.gguf"
    found = groups(gemmule.inspect(path))
    assert (found["mlp"].encodings.keys(), found["mlp"].bits) == ({"Q4_0"}, 4.5)
    assert found["attention"].encodings.keys() == {"Q4_0", "F32"}
    assert found["embeddings"].encodings.keys() == found["per-layer embeddings"].encodings.keys() == {"Q4_0"}
    assert found["per-layer inputs"].encodings["Q4_0"] == 7 * 2 * 64 * 32
    assert found["norms and scalars"].scale_bytes == 32 * 4  # the divisors of rotary angles
    assert found["leftovers"].tensors == 9


@pytest.mark.parametrize("name", ["e2b", "dense", "moe"])
def test_a_gguf_file_says_what_its_folder_said(name):
    (path, *_) = (FIXTURES / f"gguf_{name}").glob("*.gguf")
    file, folder = contents(path).shape, contents(FIXTURES / name).shape
    assert file.layers == folder.layers
    assert file.matrices() == folder.matrices()
    assert gemmule.inspect(path).architecture == gemmule.inspect(FIXTURES / name).architecture


def test_any_part_of_a_gguf_model_stands_for_the_whole(tmp_path):
    whole = gemmule.inspect(make_gguf(tmp_path / "whole", leftovers=True))
    first = make_gguf(tmp_path / "parts", leftovers=True, parts=3)
    for path in (first.parent, *first.parent.iterdir()):
        found = gemmule.inspect(path)
        assert dataclasses.replace(found, path=whole.path) == whole
    assert len(whole.leftovers) == 6


def test_an_unknown_tensor_of_a_gguf_file(tmp_path):
    file = hostile_gguf.read(GGUF[0])
    file.tensors += [tensor("blk.0.surprise.weight"), tensor("blk.99.attn_q.weight"), tensor("v.patch_embd.weight")]
    path = file.write(tmp_path / "model.gguf")
    names = ("blk.0.surprise.weight", "blk.99.attn_q.weight", "v.patch_embd.weight")
    assert gemmule.inspect(path).unknown == tuple(gemmule.load(path).info["unknown_tensors"]) == names


def test_code_usage_of_blocks():
    path = FIXTURES / "gguf_kquant" / "model-Q4_K_M.gguf"
    usage = code_usage(path, rows=10**6)
    file = {each.name.removesuffix(".weight"): each for each in hostile_gguf.read(path).tensors}
    bits = {number: int(name[1]) for name, (number, _, _) in TYPES.items() if name.startswith("Q")}
    assert usage.keys() == {name for name, each in file.items() if each.type in bits}
    for name, counts in usage.items():
        assert len(counts) == 2 ** bits[file[name].type]
        assert counts.sum() == math.prod(file[name].dims)
    few = code_usage(path, rows=3)
    assert 0 < few["token_embd"].sum() < usage["token_embd"].sum()


def test_codes_of_q4_0_are_nibbles():
    path = FIXTURES / "gguf_dense" / "model-Q4_0.gguf"
    (stored,) = [each for each in hostile_gguf.read(path).tensors if each.name == "blk.1.ffn_up.weight"]
    codes = np.frombuffer(stored.data, np.uint8).reshape(-1, 18)[:, 2:]
    expected = np.bincount(codes.ravel() & 15, minlength=16) + np.bincount(codes.ravel() >> 4, minlength=16)
    assert np.array_equal(code_usage(path, rows=10**6)["blk.1.ffn_up"], expected)


@pytest.mark.parametrize("path", ALL, ids=str)
def test_text_and_json(path, capsys):
    found = gemmule.inspect(path)
    assert cli.main(["inspect", str(path)]) == 0
    assert capsys.readouterr().out == f"{found}\n"
    for group in found.groups:
        assert f"{group.parameters:,}" in str(found)
    assert cli.main(["inspect", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(found.to_json())
    assert said["parameters"] == found.parameters
    assert [encoding["name"] for encoding in said["encodings"]] == [encoding.name for encoding in found.encodings]
    assert [group["kind"] for group in said["groups"]] == [group.kind for group in found.groups]


def test_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    figure = gemmule.inspect("fairy").plot()
    left, right = figure.axes
    bars = {label: bar for bar, label in zip(left.containers, left.get_legend_handles_labels()[1], strict=True)}
    layers = gemmule.inspect("fairy").layer_bytes
    assert [patch.get_height() * 1e6 for patch in bars["mlp"]] == pytest.approx([layer["mlp"] for layer in layers])
    image = right.images[0].get_array()
    assert image.shape == (len(code_usage("fairy")), 16)
    # 8-bit codes fall into 16 groups; a code of 2 or 4 bits fills several of the 16 places.
    assert np.all(image.sum(axis=1) >= 0.999)
    target = tmp_path / "figure.png"
    assert cli.main(["inspect", str(FIXTURES / "dense"), "--plot", str(target), "--quiet"]) == 0
    assert target.stat().st_size > 1000


@pytest.mark.parametrize("name", ["x.xyz", "-", "x", ".", "none/x.png", "folder.png"])
def test_plots_that_cannot_be_written(name, tmp_path, monkeypatch, capsys):
    """It is said before the work."""
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    for verb in (["inspect", "fairy"], ["convert", "fairy", "out.gguf", "--to", "q8_0"]):
        assert cli.main([*verb, "--plot", name]) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("gemmule: ")
    assert [each.name for each in tmp_path.iterdir()] == ["folder.png"]


def test_a_plot_on_a_full_disk(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    (tmp_path / "x.svg").symlink_to("/dev/full")
    assert cli.main(["inspect", "fairy", "--plot", str(tmp_path / "x.svg")]) == 1
    assert "No space left" in capsys.readouterr().err


def test_plot_of_a_gguf_file():
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    path = FIXTURES / "gguf_kquant" / "model-Q5_K_M.gguf"
    _, right = gemmule.inspect(path).plot().axes
    image = right.images[0].get_array()
    assert image.shape == (len(code_usage(path)), 16)
    assert np.allclose(image.sum(axis=1), 1)  # of 5, 6 and 8 bits


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(gemmule.UnsupportedError, match="matplotlib") as caught:
        gemmule.inspect("fairy").plot()
    assert "gemmule[plot]" in caught.value.remedy


@pytest.mark.parametrize("look", [gemmule.inspect, gemmule.estimate, gemmule.verify])
def test_what_is_no_checkpoint(look, tmp_path):
    with pytest.raises(gemmule.MissingFileError, match=r"config\.json"):
        look(tmp_path)
    with pytest.raises(gemmule.MissingFileError):
        look(tmp_path / "nowhere")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(gemmule.UnsupportedError, match="GGUF"):
        look(tmp_path / "model.gguf")
    file = hostile_gguf.read(GGUF[0])
    file.with_keys(general__architecture=(STRING, "llama")).write(tmp_path / "model.gguf")
    with pytest.raises(gemmule.UnsupportedError, match='"llama"'):
        look(tmp_path)
    file.with_keys(gemma4__block_count=None).write(tmp_path / "model.gguf")
    with pytest.raises(gemmule.FormatError, match="block_count"):
        look(tmp_path)
    file.write(tmp_path / "model.gguf")
    os.truncate(tmp_path / "model.gguf", 100_000)
    with pytest.raises(gemmule.FormatError, match="outside the file"):
        look(tmp_path)
    make_checkpoint(tmp_path / "good")
    (tmp_path / "good" / "config.json").write_text('{"model_type": "gemma4", "num_hidden_layers": "many"}')
    with pytest.raises(gemmule.FormatError, match="text_config"):
        look(tmp_path / "good")
    make_checkpoint(tmp_path / "good")
    os.truncate(tmp_path / "good" / "model.safetensors", 5000)
    with pytest.raises(gemmule.FormatError, match="safetensors"):
        look(tmp_path / "good")
