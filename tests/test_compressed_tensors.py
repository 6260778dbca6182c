"""compressed-tensors folders: golden values of one in groups of 32, mobile ones written in that format, and what is
wrong with others or not run."""

import json
import re
import shutil

import numpy as np
import pytest

import gemmule
import hostile
from checkpoints import E4B_MOBILE, calibrated, make_checkpoint, write_safetensors
from compressed_folders import CONFIG, dequantized, grouped, repacked
from gemmule.errors import FormatError, UnsupportedError
from gemmule.reference import Reference, read_file
from gemmule.reference.safetensors import read_folder
from golden_cases import FIXTURES, read_case
from test_golden import LOGIT_BOUND, assert_greedy

GROUPED = "ct_w4a16"


def test_groups_of_32():
    case = read_case(GROUPED)
    model = gemmule.load(case.folder, activations="float32", kv="float32")
    error = np.abs(model.logits(case.ids) - case.golden["logits_exact_f32"]).max()
    assert error <= LOGIT_BOUND
    tokens = model.generate(case.ids, temperature=0, ignore_eos=True, max_tokens=32).tokens
    assert_greedy(tokens, case.golden["greedy_ids"], case.golden["greedy_margin"], error)
    assert model.info["encodings"]["g4"] == 50
    assert model.info["unknown_tensors"] == []


def test_groups_of_32_by_integers():
    """int8 activations are off by what they round, not by more."""
    case = read_case(GROUPED)
    model = gemmule.load(case.folder, kv="float32")
    assert model.info["activations"] == "int8"
    distance = np.abs(model.logits(case.ids) - case.golden["logits_exact_f32"]).mean(axis=1)
    assert 0 < np.median(distance) <= 0.25


@pytest.mark.parametrize("name", ["e2b", "e4b", "dense", "moe"])
def test_groups_of_32_of_every_structure(tmp_path, name):
    """Against the reference on the same codes and scales. Experts, and what routes to them, stay as they are."""
    case = read_case(name)
    folder = grouped(case.folder, tmp_path / "ct", "router")
    reference = Reference(dequantized(folder, tmp_path / "plain"))
    model = gemmule.load(folder, activations="float32", kv="float32")
    assert model.info["encodings"]["g4"] > 30
    assert np.abs(model.logits(case.ids) - reference.logits(case.ids)).max() <= LOGIT_BOUND


@pytest.mark.parametrize("activations", ["auto", "float32"])
def test_groups_of_32_with_static_scales(tmp_path, activations):
    """Rounded inputs and outputs of matrices in groups, module by module: equal but where a sum lies at a tie."""
    plain = dequantized(FIXTURES / GROUPED, tmp_path / "plain")
    ids = read_case(GROUPED).ids
    tensors = {name: np.array(value) for name, value in read_folder(FIXTURES / GROUPED).items()}
    coded = {name.removesuffix(".weight_packed") for name in tensors if name.endswith(".weight_packed")}
    for name, scale in calibrated(plain, ids).items():
        module, _, what = name.rpartition(".")
        if module in coded:
            tensors[f"{module}.{what.replace('_activation', '')}"] = np.array([scale])
    folder = tmp_path / "static"
    folder.mkdir()
    shutil.copy(FIXTURES / GROUPED / "config.json", folder)
    write_safetensors(folder / "model.safetensors", tensors)

    model = gemmule.load(folder, kv="float32", activations=activations)
    assert model.info["unknown_tensors"] == []
    reference = Reference(dequantized(folder, tmp_path / "reference"), np.float32)
    random = np.random.default_rng(0)
    for name in sorted(coded):
        if re.search(r"layers\.[456]\.self_attn\.[kv]_proj", name):  # of layers that share: not loaded
            continue
        module = reference.linear(name, 0)
        x = (50 * module.input_scale * random.standard_normal((8, module.weight.shape[1]))).astype(np.float32)
        wrong = np.abs(gemmule._core.testing.linear(model._core, name, x) - module(x))
        assert module.input_scale > 0
        assert (wrong <= 1e-5 * np.abs(module(x)).max()).mean() >= 0.995, name
        assert wrong.max() <= 1.0001 * module.output_scale, name
    errors = [np.abs(model.logits(row)[-1] - reference.logits(row)[-1]).max() for row in ids.reshape(-1, 8)]
    assert sum(error <= 5e-3 for error in errors) >= 8


@pytest.mark.parametrize("name", ["mobile", "mobile_absmax"])  # per-layer scales one a row, and one a layer
@pytest.mark.parametrize("words_of_bytes", [False, True])
def test_mobile_variant_gives_the_same_bits(tmp_path, name, words_of_bytes):
    case = read_case(name)
    folder = repacked(case.folder, tmp_path / "ct", words_of_bytes=words_of_bytes)
    model = gemmule.load(folder, kv="float32")
    assert model.info["activations"] == "static"
    assert model.info["unknown_tensors"] == []
    assert ("u8" in model.info["encodings"]) == words_of_bytes
    assert np.array_equal(model.logits(case.ids), gemmule.load(case.folder, kv="float32").logits(case.ids))


def test_mobile_variant_of_e4b(tmp_path):
    """Its per-layer embedding has 2 bits, with a scale for each layer."""
    source = make_checkpoint(tmp_path / "mobile", mobile=True, **E4B_MOBILE)
    folder = repacked(source, tmp_path / "ct")
    table = read_folder(folder)["model.language_model.embed_tokens_per_layer.weight_packed"]
    assert table.shape == (160, 9 * 32 // 16)
    ids = np.arange(3, 60, dtype=np.int32)
    model, mobile = (gemmule.load(path, kv="float32") for path in (folder, source))
    assert np.array_equal(model.logits(ids), mobile.logits(ids))


def test_rows_that_end_inside_a_word(tmp_path):
    source = make_checkpoint(
        tmp_path / "mobile",
        mobile=True,
        hidden_size=44,
        num_attention_heads=3,
        head_dim=12,
        global_head_dim=20,
        intermediate_size=52,
        hidden_size_per_layer_input=12,
        tie_word_embeddings=False,
        bits={r"self_attn\.o_proj": 8},
    )
    folder = repacked(source, tmp_path / "ct", words_of_bytes=True)
    packed = {name: value for name, value in read_folder(folder).items() if name.endswith("_packed")}
    assert {value.shape[1] for name, value in packed.items() if "gate_proj" in name} == {6, 3}  # 44 elements
    ids = np.arange(3, 60, dtype=np.int32)
    for options in ({}, {"activations": "float32"}):
        model, mobile = (gemmule.load(path, kv="float32", **options) for path in (folder, source))
        assert np.array_equal(model.logits(ids), mobile.logits(ids))


def test_mobile_variant_with_scales_cut_to_bf16(tmp_path):
    case = read_case("mobile")
    ids = case.golden["short_ids"].astype(np.int32)
    exact, cut = (
        gemmule.load(repacked(case.folder, tmp_path / dtype, dtype), kv="float32") for dtype in ("F32", "BF16")
    )
    distance = np.mean([np.abs(exact.logits(row) - cut.logits(row)).mean() for row in ids])
    assert 0 < distance <= 1.0  # 2^-8 of each weight; leaving the activation scales out costs more
    assert cut.info["encodings"] == exact.info["encodings"]


def damaged(tmp_path, change):
    folder = tmp_path / "damaged"
    shutil.copytree(FIXTURES / GROUPED, folder)
    for path in sorted(folder.glob("model-*.safetensors")):
        tensors = {name: np.array(value) for name, value in read_file(path).items()}
        change(tensors)
        write_safetensors(path, tensors)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for path in sorted(folder.glob("model-*.safetensors")):
        index["weight_map"] |= dict.fromkeys(read_file(path), path.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


Q_PROJ = "model.language_model.layers.0.self_attn.q_proj"


def changed(what, change):
    """Of the q_proj: the tensor `what` becomes change(tensor)."""

    def in_file(tensors):
        if (name := f"{Q_PROJ}.{what}") in tensors:
            tensors[name] = np.ascontiguousarray(change(tensors[name]))

    return in_file


def added(what, value):
    def in_file(tensors):
        if Q_PROJ + ".weight_packed" in tensors:
            tensors[f"{Q_PROJ}.{what}"] = value

    return in_file


# What is changed in the q_proj, the error, the tensor that it names, and what it says.
DAMAGE = {
    "a word too few": (changed("weight_packed", lambda x: x[:, :-1]), FormatError, "weight_packed", "wrong kind"),
    "a row too few": (changed("weight_packed", lambda x: x[:-1]), FormatError, "weight_packed", "wrong kind"),
    "bytes for words": (changed("weight_packed", lambda x: x.view(np.uint8)), FormatError, "weight_packed", "wrong"),
    "twice the scales": (changed("weight_scale", lambda x: x.repeat(2, 1)), FormatError, "weight_scale", "config's"),
    "one scale a row": (changed("weight_scale", lambda x: x[:, :1]), FormatError, "weight_scale", "config's"),
    "scales of another row": (changed("weight_scale", lambda x: x[1:]), FormatError, "weight_scale", "wrong kind"),
    "scales as codes": (changed("weight_scale", lambda x: x.astype(np.int8)), FormatError, "weight_scale", "wrong"),
    "another shape": (
        changed("weight_shape", lambda x: x[::-1]),
        FormatError,
        "weight_shape",
        "128 and 64.*64 and 128",
    ),
    "a shape of floats": (changed("weight_shape", lambda x: x.astype(np.float32)), FormatError, "weight_shape", "F32"),
    "a shape of three": (changed("weight_shape", lambda x: x[[0, 1, 1]]), FormatError, "weight_shape", r"\[3\]"),
    "a negative scale": (added("input_scale", np.float32([-1])), FormatError, "input_scale", "negative"),
    "a scale of infinity": (added("output_scale", np.float32([np.inf])), FormatError, "output_scale", "finite"),
    "two scales": (added("input_scale", np.ones(2, np.float32)), FormatError, "input_scale", r"shape \[\] or \[1\]"),
    "zero points": (
        added("weight_zero_point", np.zeros(4, np.int32)),
        UnsupportedError,
        "weight_zero_point",
        "zero points",
    ),
    "zero points of inputs": (
        added("input_zero_point", np.zeros(1, np.int8)),
        UnsupportedError,
        "input_zero_point",
        "zero points",
    ),
    "columns in another order": (
        added("weight_g_idx", np.zeros(64, np.int32)),
        UnsupportedError,
        "weight_g_idx",
        "reordered",
    ),
}


@pytest.mark.parametrize(("change", "error", "tensor", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_what_does_not_fit_is_named(tmp_path, change, error, tensor, message):
    with pytest.raises(error, match=message) as caught:
        gemmule.load(damaged(tmp_path, change))
    assert caught.value.tensor == f"{Q_PROJ}.{tensor}"


def test_a_shape_of_32_bits(tmp_path):
    folder = damaged(tmp_path, changed("weight_shape", lambda x: x.astype(np.int32)))
    assert gemmule.load(folder).info["unknown_tensors"] == []


def with_config(tmp_path, change):
    """The fixture with its quantization_config changed."""
    folder = tmp_path / "other"
    shutil.copytree(FIXTURES / GROUPED, folder)
    config = json.loads((folder / "config.json").read_text())
    change(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def weights(**fields):
    return lambda config: config["config_groups"]["group_0"]["weights"].update(fields)


def inputs(**fields):
    scheme = {"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": False, "symmetric": True} | fields
    return lambda config: config["config_groups"]["group_0"].update(input_activations=scheme)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("config_groups"),
        lambda config: config.update(format="mixed-precision", transform_config=None, sparsity_config=None),
        weights(strategy=None),
        weights(num_bits=None),
        lambda config: config["config_groups"].update(group_1={"targets": []}),
        lambda config: config["transform_config"].update(config_groups={}),
        weights(actorder=None, observer_kwargs={}, zp_dtype=None),
        weights(actorder="weight", symmetric=None),
        weights(actorder=False),
        inputs(),
        inputs(dynamic=True, strategy="token", type="float"),
        inputs(dynamic="local", strategy="group", type="float"),
    ],
)
def test_other_spellings_of_the_same_scheme(tmp_path, change):
    ids = read_case(GROUPED).ids[:20]
    got = gemmule.load(with_config(tmp_path, change)).logits(ids)
    assert np.array_equal(got, gemmule.load(FIXTURES / GROUPED).logits(ids))


# What the config says, and the field that is named.
SCHEMES = {
    "small floats": (weights(type="float"), "config_groups.group_0.weights.type"),
    "three bits": (weights(num_bits=3), "config_groups.group_0.weights.num_bits"),
    "one scale for all": (weights(strategy="tensor", group_size=None), "config_groups.group_0.weights.strategy"),
    "tiles": (weights(strategy="block", block_structure=[128, 128]), "config_groups.group_0.weights.strategy"),
    "zero points": (weights(symmetric=False), "config_groups.group_0.weights.symmetric"),
    "an order of their own": (weights(actorder="group"), "config_groups.group_0.weights.actorder"),
    "inputs of small floats": (inputs(type="float"), "config_groups.group_0.input_activations.type"),
    "inputs of 4 bits": (inputs(num_bits=4), "config_groups.group_0.input_activations.num_bits"),
    "inputs in groups": (inputs(strategy="group"), "config_groups.group_0.input_activations.strategy"),
    "inputs with zero points": (inputs(symmetric=False), "config_groups.group_0.input_activations.symmetric"),
    "another packing": (lambda config: config.update(format="marlin-24"), "format"),
    "fp8": (lambda config: config.update(format="float-quantized"), "format"),
    "sparse weights": (
        lambda config: config["sparsity_config"].update(format="sparse-bitmask"),
        "sparsity_config.format",
    ),
    "rotations": (
        lambda config: config["transform_config"].update(config_groups={"R1": {}}),
        "transform_config.config_groups",
    ),
}


@pytest.mark.parametrize(("change", "field"), SCHEMES.values(), ids=SCHEMES.keys())
def test_schemes_that_are_not_run(tmp_path, change, field):
    folder = with_config(tmp_path, change)
    with pytest.raises(UnsupportedError, match="not run") as caught:
        gemmule.load(folder)
    assert (caught.value.file, caught.value.tensor) == (str(folder / "config.json"), "quantization_config." + field)
    assert "-qat-w4a16-ct" in caught.value.remedy
    assert caught.value.expected


@pytest.mark.parametrize(
    "change",
    [
        weights(group_size=0),
        weights(group_size=(1 << 20) + 1),
        weights(strategy=None, group_size=0),
        weights(group_size="32"),
        weights(strategy="group", group_size=None),
        weights(num_bits=4.0),
        weights(strategy=1),
        lambda config: config.update(config_groups=[]),
        lambda config: config.update(format=4),
    ],
)
def test_schemes_that_lie(tmp_path, change):
    with pytest.raises(FormatError, match="quantization_config"):
        gemmule.load(with_config(tmp_path, change))


def test_groups_of_another_size(tmp_path):
    """All that belongs to the scheme says so: it is another one, and no damage."""
    folder = with_config(tmp_path, weights(group_size=16))
    for path in folder.glob("model-*.safetensors"):
        tensors = {name: np.array(value) for name, value in read_file(path).items()}
        twice = {name: value.repeat(2, 1) for name, value in tensors.items() if name.endswith("weight_scale")}
        write_safetensors(path, tensors | twice)
    with pytest.raises(UnsupportedError, match="groups of 16") as caught:
        gemmule.load(folder)
    assert "groups of 32" in caught.value.remedy


def with_tensors(tmp_path, change):
    """The fixture in one file, with change(tensors) done to it."""
    folder = tmp_path / "changed"
    folder.mkdir()
    shutil.copy(FIXTURES / GROUPED / "config.json", folder)
    tensors = dict(read_folder(FIXTURES / GROUPED))
    change(tensors)
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_weights_that_are_not_compressed(tmp_path):
    def change(tensors):
        del tensors[Q_PROJ + ".weight_packed"]
        tensors[Q_PROJ + ".weight"] = np.zeros((128, 64), np.float32)

    with pytest.raises(UnsupportedError, match="before their compression") as caught:
        gemmule.load(with_tensors(tmp_path, change))
    assert caught.value.tensor == Q_PROJ + ".weight"


def test_weights_of_8_bit_floats(tmp_path):
    def change(tensors):
        del tensors[Q_PROJ + ".weight_packed"]
        tensors[Q_PROJ + ".weight"] = np.zeros((128, 64), np.uint8)

    path = with_tensors(tmp_path, change) / "model.safetensors"
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header[Q_PROJ + ".weight"]["dtype"] = "F8_E4M3"
    hostile.write_safetensors(path, header, data[8 + int.from_bytes(data[:8], "little") :])
    with pytest.raises(UnsupportedError, match=r"small floats.*F8_E4M3") as caught:
        gemmule.load(path.parent)
    assert (caught.value.file, caught.value.tensor) == (str(path), Q_PROJ + ".weight")
    assert "bfloat16" in caught.value.remedy


def test_experts_that_are_packed(tmp_path):
    folder = tmp_path / "moe"
    shutil.copytree(FIXTURES / "moe", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": CONFIG}))
    tensors = {name: value for name, value in read_folder(folder).items() if ".experts." not in name}
    write_safetensors(folder / "model.safetensors", tensors)
    with pytest.raises(UnsupportedError, match="packed experts") as caught:
        gemmule.load(folder)
    assert caught.value.tensor.endswith("layers.0.experts.gate_up_proj")
    assert "GGUF" in caught.value.remedy
