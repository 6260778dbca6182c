"""Converting to the mobile format: the packed fixture's bytes, bits by rules, scales from files, what is refused."""

import json
import struct

import numpy as np
import pytest

import gemmule
from checkpoints import FULL, SLIDING, make_checkpoint, write_safetensors
from gemmule.checkpoints import checkpoint
from gemmule.conversion.mobile_bits import BitRule, bits_of, overriding_rules
from gemmule.reference import read_file, read_folder
from golden_cases import FIXTURES
from memory_peak import peak_growth

SOURCE = FIXTURES / "mobile_source"
IDS = np.random.default_rng(5).integers(3, 600, 60).astype(np.int32)
PREFIX = "model.language_model."


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def packed(tensors: dict) -> dict:
    """Without scales of activations and caches."""
    return {name: values for name, values in tensors.items() if not name.endswith(("activation_scale", "cache_scale"))}


def config_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_the_packed_fixture_comes_out(tmp_path):
    report = gemmule.convert(SOURCE, tmp_path / "a", to="mobile", scales="absmax")
    found, wanted = packed(read_folder(tmp_path / "a")), packed(read_folder(FIXTURES / "mobile_absmax"))
    assert set(found) <= set(wanted)
    for name in found:
        assert same(found[name], wanted[name]), name
    # What layers that read others' keys and values do not use.
    assert {name.removeprefix(PREFIX).rsplit(".", 1)[0] for name in set(wanted) - set(found)} == {
        name.removesuffix(".weight") for name in report.left_out
    }
    assert all(".k_" in name or ".v_proj" in name for name in report.left_out)
    written, published = (config_of(folder) for folder in (tmp_path / "a", FIXTURES / "mobile_absmax"))
    quantization = written.pop("quantization_config")
    assert quantization == published.pop("quantization_config")
    assert written == published


def test_scales_of_a_file_give_the_trained_codes(tmp_path):
    """The bundled model's, from its dequantized weights."""
    fairy = checkpoint.find("fairy")
    stored = read_file(fairy / "model.safetensors")
    gemmule.convert(fairy, tmp_path / "bf16", to="bf16")
    scales = {name: values for name, values in stored.items() if name.endswith(("weight_scale", "embedding_scale"))}
    del scales["lm_head.weight_scale"]
    write_safetensors(tmp_path / "scales", scales)
    gemmule.convert(tmp_path / "bf16", tmp_path / "a", to="mobile", weight_scales=tmp_path / "scales", ple_scale="row")
    found = packed(read_folder(tmp_path / "a"))
    assert set(found) == set(packed(stored))
    assert all(same(found[name], stored[name]) for name in found)


def test_a_dequantized_checkpoint_is_recovered(tmp_path):
    gemmule.convert("fairy", tmp_path / "bf16", to="bf16")
    report = gemmule.convert(tmp_path / "bf16", tmp_path / "a", to="mobile", scales="recover", ple_scale="row")
    assert {tensor.on_grid for tensor in report.tensors} == {1.0}
    gemmule.convert(tmp_path / "a", tmp_path / "again", to="bf16")
    wanted, found = read_folder(tmp_path / "bf16"), read_folder(tmp_path / "again")
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)


@pytest.mark.parametrize("rule", ["search", "absmax"])
def test_packed_rows_stay_what_they_are(tmp_path, rule):
    """Scales of activations and caches too; those of the per-layer embeddings are repeated for each layer."""
    report = gemmule.convert("fairy", tmp_path / "a", to="mobile", scales=rule)
    stored, found = read_file(checkpoint.find("fairy") / "model.safetensors"), read_folder(tmp_path / "a")
    assert report.notes == ()
    assert set(found) == set(stored)
    for name, values in found.items():
        wanted = stored[name]
        if name.endswith("embed_tokens_per_layer.embedding_scale"):
            wanted = np.repeat(wanted, 7, axis=1)
        assert same(values, wanted), name
    a, b = (gemmule.load(path).logits(IDS) for path in ("fairy", tmp_path / "a"))
    assert np.array_equal(a, b)


def test_the_search_is_better_than_the_largest_weight(tmp_path):
    gemmule.convert(SOURCE, tmp_path / "a", to="mobile", scales="absmax")
    gemmule.convert(SOURCE, tmp_path / "b", to="mobile")
    exact, a, b = (gemmule.load(path, kv="float32").logits(IDS) for path in (SOURCE, tmp_path / "a", tmp_path / "b"))
    assert np.abs(b - exact).mean() < 0.8 * np.abs(a - exact).mean()


def test_scales_of_blocks_of_the_per_layer_embeddings(tmp_path):
    errors = {}
    for ple_scale in ("layer", "row"):
        report = gemmule.convert(SOURCE, tmp_path / ple_scale, to="mobile", ple_scale=ple_scale)
        (table,) = (tensor for tensor in report.tensors if tensor.kind == "per-layer embeddings")
        errors[ple_scale] = table.relative_error
        stored = read_folder(tmp_path / ple_scale)
        assert stored[PREFIX + "embed_tokens_per_layer.embedding_scale"].shape == (
            640,
            7 if ple_scale == "layer" else 1,
        )
        assert np.isfinite(gemmule.load(tmp_path / ple_scale).logits(IDS)).all()
    assert errors["layer"] < errors["row"]


def test_bits_follow_the_published_rules(tmp_path):
    report = gemmule.convert(FIXTURES / "e4b", tmp_path / "a", to="mobile")
    stored = {tensor.name.removeprefix("model."): tensor.stored for tensor in report.tensors}
    assert stored["embed_tokens_per_layer.embedding_quantized"] == "2-bit"
    assert {bits for name, bits in stored.items() if ".mlp." in name} == {"4-bit"}
    assert {bits for name, bits in stored.items() if "per_layer_input_gate" in name} == {"8-bit"}
    assert stored["lm_head.weight"] == stored["embed_tokens.embedding_quantized"] == "2-bit"
    assert np.isfinite(gemmule.load(tmp_path / "a").logits(IDS)).all()


def test_overrides(tmp_path):
    overrides = {r"o_proj$": 8, "layers.6.*gate_proj": 4, "embed_tokens$": 4, "^lm_head$": 4}
    report = gemmule.convert(SOURCE, tmp_path / "a", to="mobile", overrides=overrides)
    stored = {tensor.name: tensor.stored for tensor in report.tensors}
    assert {bits for name, bits in stored.items() if "o_proj" in name} == {"8-bit"}
    assert stored[PREFIX + "layers.6.mlp.gate_proj.weight"] == "4-bit"
    assert stored[PREFIX + "layers.5.mlp.gate_proj.weight"] == "2-bit"
    assert stored["lm_head.weight"] == stored[PREFIX + "embed_tokens.embedding_quantized"] == "4-bit"
    assert np.isfinite(gemmule.load(tmp_path / "a").logits(IDS)).all()
    rules = config_of(tmp_path / "a")["quantization_config"]["module_quant_configs"]
    modules = [name.rsplit(".", 1)[0] for name in stored if stored[name].endswith("-bit")]
    rules = [BitRule(pattern, entry["num_bits"]) for pattern, entry in rules.items()]
    for module, bits in zip(modules, (bits for bits in stored.values() if bits.endswith("-bit")), strict=True):
        assert f"{bits_of(module, rules)}-bit" == bits


def test_a_rule_for_a_module_is_found_first():
    """However the patterns are tried: an alternation finds the leftmost match."""
    rules = overriding_rules({"b": 8}, ["model.a.b", "model.a.c"])
    assert rules == [BitRule(r"^(model\.a\.b)$", 8)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"layers.(": 4}, "does not compile"),
        ({"layers.99": 4}, "is found in no module"),
        ({"per_layer_model_projection": 4}, "is found in no module"),
        ({"mlp": 3}, "3 bits"),
        ({"mlp": True}, "True bits"),
        ({"mlp": "4"}, "'4' bits"),
        ({4: 4}, "does not compile"),
    ],
)
def test_wrong_overrides(tmp_path, overrides, message):
    with pytest.raises(gemmule.ArgumentError, match=message) as error:
        gemmule.convert(SOURCE, tmp_path / "a", to="mobile", overrides=overrides)
    assert error.value.remedy
    assert list(tmp_path.iterdir()) == []


def scales_of_fixture() -> dict:
    made = read_folder(FIXTURES / "mobile_absmax")
    return {name: values for name, values in made.items() if name.endswith(("weight_scale", "embedding_scale"))}


def without(scales: dict, name: str) -> dict:
    return {key: values for key, values in scales.items() if key != name}


Q = PREFIX + "layers.0.self_attn.q_proj.weight_scale"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scales: without(scales, Q), "q_proj.weight_scale: expected a scale, found none"),
        (lambda scales: scales | {"other.weight_scale": scales[Q]}, "other.weight_scale"),
        (lambda scales: scales | {Q.replace("language_model.", ""): scales[Q]}, "two prefixes"),
        (lambda scales: scales | {Q: scales[Q][:-1]}, "q_proj.weight_scale: expected shape"),
        (lambda scales: scales | {Q: scales[Q] * 0}, "a scale of 0"),
        (lambda scales: scales | {Q: -scales[Q]}, "none negative"),
        (lambda scales: scales | {Q: scales[Q] * np.nan}, "finite"),
        (lambda scales: scales | {Q: np.repeat(scales[Q], 7, axis=1)}, "expected shape"),
    ],
)
def test_scales_that_do_not_belong(tmp_path, change, message):
    write_safetensors(tmp_path / "scales", change(scales_of_fixture()))
    with pytest.raises(gemmule.FormatError, match=message) as error:
        gemmule.convert(SOURCE, tmp_path / "a", to="mobile", weight_scales=tmp_path / "scales")
    assert error.value.file == str(tmp_path / "scales")
    assert [path.name for path in tmp_path.iterdir()] == ["scales"]


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("scales", gemmule.MissingFileError, "no such file"),
        ("x" * 5000, gemmule.ResourceError, "File name too long"),
        ("~nobody-of-this-name/scales", gemmule.ArgumentError, "expected a path"),
        (7, gemmule.ArgumentError, "expected a path"),
    ],
)
@pytest.mark.parametrize("which", ["weight_scales", "activation_scales"])
def test_scales_that_are_not_there(tmp_path, monkeypatch, which, path, kind, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        gemmule.convert(SOURCE, tmp_path / "a", to="mobile", **{which: path})


@pytest.mark.parametrize(("name", "message"), [(Q, "expected shape"), ("other.weight_scale", "expected names")])
def test_scales_that_do_not_belong_are_not_read(tmp_path, name, message):
    """100 MB of them, in a file of a hole."""
    wrong = {name: {"dtype": "F32", "shape": [25_000_000], "data_offsets": [0, 100_000_000]}}
    end = 100_000_000
    for each, values in without(scales_of_fixture(), name).items():
        wrong[each] = {"dtype": "F32", "shape": values.shape, "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(wrong).encode()
    with (tmp_path / "scales").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)

    def refuse() -> None:
        with pytest.raises(gemmule.FormatError, match=message):
            gemmule.convert(SOURCE, tmp_path / "a", to="mobile", weight_scales=tmp_path / "scales")

    assert peak_growth(refuse) < 64e6


def test_names_of_scales_are_printable(tmp_path):
    write_safetensors(tmp_path / "scales", {"\x1b[31m\n": np.ones(1, np.int8)})
    with pytest.raises(gemmule.FormatError) as error:
        gemmule.convert(SOURCE, tmp_path / "a", to="mobile", weight_scales=tmp_path / "scales")
    assert error.value.message.isprintable()
    assert error.value.tensor == "\x1b[31m\n"


def test_scales_for_each_layer_do_not_fit_one_a_row(tmp_path):
    write_safetensors(tmp_path / "scales", scales_of_fixture())
    with pytest.raises(gemmule.FormatError, match="embed_tokens_per_layer"):
        gemmule.convert(SOURCE, tmp_path / "a", to="mobile", weight_scales=tmp_path / "scales", ple_scale="row")


def test_experts_are_refused(tmp_path):
    for to in ("mobile", "w4a16"):
        with pytest.raises(gemmule.UnsupportedError, match="experts") as error:
            gemmule.convert(FIXTURES / "moe", tmp_path / "a", to=to)
        assert "q4_0" in error.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_rows_that_do_not_fill_bytes(tmp_path):
    folder = make_checkpoint(
        tmp_path / "source",
        hidden_size=66,
        hidden_size_per_layer_input=0,
        layer_types=[SLIDING, FULL],
        num_kv_shared_layers=0,
    )
    with pytest.raises(gemmule.UnsupportedError, match="whole bytes") as error:
        gemmule.convert(folder, tmp_path / "a", to="mobile")
    assert "8" in error.value.remedy
    gemmule.convert(folder, tmp_path / "a", to="mobile", overrides={".": 8})


def test_from_a_gguf_file(tmp_path):
    gemmule.convert(SOURCE, tmp_path / "a.gguf", to="bf16")
    gemmule.convert(tmp_path / "a.gguf", tmp_path / "a", to="mobile", scales="absmax")
    gemmule.convert(SOURCE, tmp_path / "b", to="mobile", scales="absmax")
    a, b = (read_folder(tmp_path / name) for name in "ab")
    assert {name.replace("model.", PREFIX) if name.startswith("model.") else name for name in a} == set(b)
    assert all(same(values, b[name.replace("model.", PREFIX, 1)]) for name, values in a.items())
    rules = config_of(tmp_path / "a")["quantization_config"]["module_quant_configs"]
    assert not any("language_model" in pattern for pattern in rules)
    assert np.array_equal(gemmule.load(tmp_path / "a").logits(IDS), gemmule.load(tmp_path / "b").logits(IDS))


def test_without_scales_of_activations_the_report_says_so(tmp_path):
    report = gemmule.convert(SOURCE, tmp_path / "a", to="mobile")
    assert len(report.notes) == 2
    assert all(note in str(report) for note in report.notes)
    assert gemmule.verify(tmp_path / "a").ok
