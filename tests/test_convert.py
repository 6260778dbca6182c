"""`gemmule.convert` as a whole: what it writes loads, and gives the source's results."""

import json
from dataclasses import replace

import numpy as np
import pytest

import gemmule
import hostile_gguf
from checkpoints import make_checkpoint, write_safetensors
from gemmule.reference import read_folder
from golden_cases import FIXTURES

IDS = np.random.default_rng(5).integers(3, 600, 60).astype(np.int32)


def logits(path) -> np.ndarray:
    return gemmule.load(path, kv="float32", activations="float32").logits(IDS)


@pytest.mark.parametrize("name", ["e2b", "e4b", "dense", "moe", "share_order"])
@pytest.mark.parametrize("suffix", [".gguf", ""])
def test_floats_are_kept(tmp_path, name, suffix):
    source, target = FIXTURES / name, tmp_path / f"target{suffix}"
    report = gemmule.convert(source, target, to="bf16")
    assert np.array_equal(logits(target), logits(source))
    assert {tensor.on_grid for tensor in report.tensors} == {1.0}
    assert report.left_out == ()
    assert report.bytes <= sum(file.stat().st_size for file in [target, *target.glob("*")])


@pytest.mark.parametrize("suffix", [".gguf", ""])
def test_the_tokenizer_comes_along(tmp_path, suffix):
    target = tmp_path / f"target{suffix}"
    gemmule.convert("fairy", target, to="bf16")
    text = "The old king's 3 daughters<eos>\n\n  — ½ \U0001f98a"
    there, here = gemmule.load(target), gemmule.load("fairy")
    assert there.tokenizer.encode(text) == here.tokenizer.encode(text)
    assert there._defaults.end_tokens >= here._defaults.end_tokens


def test_a_folder_keeps_its_tensors(tmp_path):
    """Those of layers that share another's keys and values too."""
    gemmule.convert(FIXTURES / "e2b", tmp_path / "target", to="bf16")
    wanted, found = read_folder(FIXTURES / "e2b"), read_folder(tmp_path / "target")
    assert set(found) == set(wanted)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_packed_weights_are_unpacked(tmp_path):
    report = gemmule.convert(FIXTURES / "mobile", tmp_path / "target", to="bf16")
    config = json.loads((tmp_path / "target" / "config.json").read_text())
    assert "quantization_config" not in config
    assert {name for name in report.left_out if not name.endswith("_cache_scale")} == {"lm_head.weight"}
    assert gemmule.load(tmp_path / "target").info["config"]["tie_word_embeddings"]
    model = gemmule.load(tmp_path / "target")
    assert model.info["unknown_tensors"] == model.info["leftover_tensors"][18:] == []
    for tensor in report.tensors:
        assert tensor.relative_error <= 2**-8  # of bfloat16
    assert max(tensor.relative_error for tensor in report.tensors) > 2**-12


def stored(path) -> dict[str, tuple]:
    return {t.name: (t.type, t.dims, t.data) for t in hostile_gguf.read(path).tensors}


def test_llama_cpps_rule_gives_its_bytes(tmp_path):
    gemmule.convert(FIXTURES / "e2b", tmp_path / "a.gguf", to="q4_0", grid="llama", pure=True)
    theirs = FIXTURES / "gguf_e2b" / "model-Q4_0-pure.gguf"
    assert stored(tmp_path / "a.gguf") == stored(theirs)
    ours, wanted = (hostile_gguf.read(path).keys for path in (tmp_path / "a.gguf", theirs))
    assert ours.pop("general.name") == (hostile_gguf.STRING, "e2b")
    del wanted["general.name"]
    assert ours == wanted


@pytest.mark.parametrize(("kind", "to"), [("Q8_0", "q8_0"), ("Q4_0", "q4_0")])
def test_as_llama_quantize_does_by_default(tmp_path, kind, to):
    """But for the projection, which is left as it is: llama.cpp's source had it in F32."""
    gemmule.convert(FIXTURES / "e2b", tmp_path / "a.gguf", to=to, grid="llama")
    ours, theirs = stored(tmp_path / "a.gguf"), stored(FIXTURES / "gguf_e2b" / f"model-{kind}.gguf")
    projection = "per_layer_model_proj.weight"
    assert ours.pop(projection)[0] == hostile_gguf.TYPES["BF16"][0]
    assert theirs.pop(projection)[0] == hostile_gguf.TYPES["F32"][0]
    assert ours == theirs


def blocks(report) -> list:
    return [tensor for tensor in report.tensors if tensor.stored == "q4_0"]


def redrawn(tensor: hostile_gguf.Tensor) -> hostile_gguf.Tensor:
    """Q4_0 with other codes, none of them the extreme one, and scales of both signs with all bits of a float16."""
    if tensor.type != hostile_gguf.TYPES["Q4_0"][0]:
        return tensor
    random = np.random.default_rng(len(tensor.data))
    data = np.frombuffer(tensor.data, np.uint8).reshape(-1, 18).copy()
    scales = (
        data[:, :2].copy().view(np.float16)[:, 0]
        * random.uniform(0.8, 1.2, len(data))
        * random.choice([-1, 1], len(data))
    )
    data[:, :2] = scales.astype(np.float16)[:, None].view(np.uint8)
    codes = random.integers(-6, 7, (2, *data[:, 2:].shape)) + 8
    data[:, 2:] = codes[0] | codes[1] << 4
    return replace(tensor, data=data.tobytes())


@pytest.mark.parametrize("change", [lambda tensor: tensor, redrawn], ids=["as it is", "redrawn"])
def test_a_grid_is_recovered(tmp_path, change):
    """The weights of a Q4_0 file, dequantized to bfloat16."""
    file = hostile_gguf.read(FIXTURES / "gguf_e2b" / "model-Q4_0-pure.gguf")
    source = replace(file, tensors=[change(tensor) for tensor in file.tensors]).write(tmp_path / "source.gguf")
    gemmule.convert(source, tmp_path / "bf16", to="bf16")
    report = gemmule.convert(tmp_path / "bf16", tmp_path / "a.gguf", to="q4_0", pure=True)
    assert len(blocks(report)) > 60
    assert min(tensor.on_grid for tensor in blocks(report)) >= 0.999
    again = gemmule.convert(tmp_path / "a.gguf", tmp_path / "again", to="bf16")
    assert again.bytes == sum(4 * t.parameters if t.stored == "f32" else 2 * t.parameters for t in again.tensors)
    wanted, found = read_folder(tmp_path / "bf16"), read_folder(tmp_path / "again")
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
    if change is redrawn:
        requantized = gemmule.convert(tmp_path / "bf16", tmp_path / "b.gguf", to="q4_0", pure=True, grid="llama")
        assert max(tensor.on_grid for tensor in blocks(requantized)) < 0.05


def test_weights_on_no_grid_are_said_to_be(tmp_path):
    report = gemmule.convert(FIXTURES / "e2b", tmp_path / "a.gguf", to="q4_0")
    assert len(report.notes) == 1
    assert "llama" in report.notes[0]
    assert report.notes[0] in str(report)
    assert gemmule.convert(FIXTURES / "e2b", tmp_path / "b.gguf", to="q4_0", grid="llama").notes == ()
    assert gemmule.convert(FIXTURES / "ct_w4a16", tmp_path / "c.gguf", to="q4_0").notes == ()


def test_blocks_stay_what_they_are(tmp_path):
    source = FIXTURES / "gguf_e2b" / "model-Q4_0-pure.gguf"
    gemmule.convert(source, tmp_path / "a.gguf", to="q4_0", pure=True)
    assert stored(tmp_path / "a.gguf") == stored(source)


def test_a_file_without_what_shared_layers_do_not_use(tmp_path):
    gemmule.convert("fairy", tmp_path / "a.gguf", to="q4_0")
    gemmule.convert(tmp_path / "a.gguf", tmp_path / "folder", to="bf16")
    ids = IDS[:30]
    exact, rounded = (
        gemmule.load(tmp_path / name, kv="float32", activations="float32").logits(ids) for name in ("a.gguf", "folder")
    )
    assert np.abs(exact - rounded).mean() < 0.05


def test_embeddings_in_blocks_of_256(tmp_path):
    folder = make_checkpoint(tmp_path / "source", hidden_size=256, hidden_size_per_layer_input=64)
    gemmule.convert(folder, tmp_path / "a.gguf", to="q4_0")
    gemmule.convert(folder, tmp_path / "b.gguf", to="q4_0", embeddings="q4_0")
    for name, encoding in (("a.gguf", "Q6_K"), ("b.gguf", "Q4_0")):
        types = {t.name: t.type for t in hostile_gguf.read(tmp_path / name).tensors}
        number = hostile_gguf.TYPES[encoding][0]
        assert types["token_embd.weight"] == types["per_layer_token_embd.weight"] == number
    ids = IDS % 160
    exact, a, b = (
        gemmule.load(path, activations="float32").logits(ids) for path in (folder, *sorted(tmp_path.glob("*.gguf")))
    )
    assert 0 < np.abs(a - exact).mean() < np.abs(b - exact).mean()


def test_rows_that_do_not_divide_into_blocks(tmp_path):
    folder = make_checkpoint(tmp_path / "source", hidden_size=48, hidden_size_per_layer_input=16)
    with pytest.raises(gemmule.UnsupportedError, match="blocks of 32") as error:
        gemmule.convert(folder, tmp_path / "a.gguf", to="q4_0")
    assert error.value.tensor
    assert "bf16" in error.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_report(tmp_path):
    report = gemmule.convert(FIXTURES / "e2b", tmp_path / "a.gguf", to="bf16")
    said = json.loads(report.to_json())
    assert said["to"] == "bf16"
    assert len(said["tensors"]) == len(report.tensors) == 124
    assert sum(tensor.parameters for tensor in report.tensors) == sum(
        t.size for t in read_folder(FIXTURES / "e2b").values()
    )
    assert "per-layer embeddings" in str(report)


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    report = gemmule.convert(FIXTURES / "e2b", tmp_path / "a.gguf", to="q4_0")
    errors, sizes = report.plot().axes
    drawn = sum(len(line.get_xdata()) for line in errors.lines)
    assert drawn == sum(tensor.relative_error > 0 for tensor in report.tensors) > 60
    assert sum(bar.get_width() for bar in sizes.patches) == pytest.approx(report.bytes / 1e6)


def test_what_exists_is_replaced_only_on_demand(tmp_path):
    target = tmp_path / "a.gguf"
    target.write_text("mine")
    with pytest.raises(gemmule.ArgumentError, match="exists"):
        gemmule.convert(FIXTURES / "e2b", target, to="bf16")
    assert target.read_text() == "mine"
    gemmule.convert(FIXTURES / "e2b", target, to="bf16", force=True)
    assert np.array_equal(logits(target), logits(FIXTURES / "e2b"))


@pytest.mark.parametrize("suffix", [".gguf", ""])
def test_a_weight_that_is_not_finite_leaves_nothing(tmp_path, suffix):
    folder = make_checkpoint(tmp_path / "source", dtype="F32", vocab_size=640)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((FIXTURES / "e2b" / file).read_bytes())
    tensors = read_folder(folder)
    name = "model.language_model.layers.2.self_attn.o_proj.weight"
    tensors[name] = tensors[name].copy()
    tensors[name][1, 2] = np.nan
    write_safetensors(folder / "model.safetensors", tensors)
    with pytest.raises(gemmule.FormatError, match="row 1, column 2") as error:
        gemmule.convert(folder, tmp_path / f"target{suffix}", to="bf16")
    assert error.value.tensor == "layers.2.self_attn.o_proj.weight"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    report = gemmule.convert(folder, tmp_path / f"target{suffix}", to="bf16", allow_nonfinite=True)
    assert sum(tensor.nonfinite for tensor in report.tensors) == 1
    assert np.isfinite([tensor.relative_error for tensor in report.tensors]).all()
    assert "nonfinite" in report.to_json()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "q5_0"}, "to"),
        ({"to": "q4_0", "grid": "best"}, "grid"),
        ({"to": "q4_0", "embeddings": "f32"}, "embeddings"),
        ({"to": "bf16", "threads": 0}, "threads"),
        ({"to": "mobile", "scales": "best"}, "scales"),
        ({"to": "mobile", "ple_scale": "both"}, "ple_scale"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(gemmule.ArgumentError, match=message):
        gemmule.convert(FIXTURES / "e2b", tmp_path / "a.gguf", **arguments)
    assert list(tmp_path.iterdir()) == []
