"""compressed-tensors folders: golden values of one in groups of 32, and the mobile fixture written in that format."""

import json
import shutil

import numpy as np
import pytest

import gemmule
from checkpoints import write_safetensors
from gemmule.errors import FormatError, UnsupportedError
from gemmule.reference import read_file
from gemmule.reference.safetensors import read_folder
from golden_cases import FIXTURES, read_case
from test_golden import LOGIT_BOUND, assert_greedy

GROUPED = "ct_w4a16"
CONFIG = {"quant_method": "compressed-tensors", "format": "pack-quantized"}


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


def repacked(name: str, folder, scale_dtype: str):
    """The mobile fixture's codes and scales under compressed-tensors' names. Zero and cache scales are left out."""
    tensors = {}
    for key, value in read_folder(FIXTURES / name).items():
        key = key.replace("embedding_quantized", "weight").replace("embedding_scale", "weight_scale")
        key = key.replace("input_activation_scale", "input_scale").replace("output_activation_scale", "output_scale")
        if key.endswith("_cache_scale") or (key.endswith("put_scale") and value == 0):
            continue
        if key.endswith(".weight") and value.dtype == np.uint8:
            tensors[key + "_packed"] = np.ascontiguousarray(value).view("<i4")
        elif key.endswith("weight_scale") and scale_dtype == "BF16":
            tensors[key] = (value.view(np.uint32) >> 16).astype(np.uint16)  # cut off, not rounded
        else:
            tensors[key] = value
    folder.mkdir()
    config = json.loads((FIXTURES / name / "config.json").read_text()) | {"quantization_config": CONFIG}
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


@pytest.mark.parametrize("name", ["mobile", "mobile_absmax"])  # per-layer scales one a row, and one a layer
def test_mobile_variant_gives_the_same_bits(tmp_path, name):
    case = read_case(name)
    model = gemmule.load(repacked(name, tmp_path / "ct", "F32"), kv="float32")
    assert model.info["activations"] == "static"
    assert model.info["unknown_tensors"] == []
    assert np.array_equal(model.logits(case.ids), gemmule.load(case.folder, kv="float32").logits(case.ids))


def test_mobile_variant_with_scales_cut_to_bf16(tmp_path):
    case = read_case("mobile")
    ids = case.golden["short_ids"].astype(np.int32)
    exact, cut = (gemmule.load(repacked("mobile", tmp_path / dtype, dtype), kv="float32") for dtype in ("F32", "BF16"))
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


def cut_words(tensors):
    if (name := Q_PROJ + ".weight_packed") in tensors:
        tensors[name] = np.ascontiguousarray(tensors[name][:, :-1])


def wide_groups(tensors):
    if (name := Q_PROJ + ".weight_scale") in tensors:
        tensors[name] = np.repeat(tensors[name], 2, axis=1)


def zero_point(tensors):
    if Q_PROJ + ".weight_packed" in tensors:
        tensors[Q_PROJ + ".weight_zero_point"] = np.zeros(4, np.int32)


@pytest.mark.parametrize(
    ("change", "error", "tensor"),
    [
        (cut_words, FormatError, "weight_packed"),
        (wide_groups, FormatError, "weight_scale"),
        (zero_point, UnsupportedError, "weight_zero_point"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, error, tensor):
    with pytest.raises(error, match=tensor) as caught:
        gemmule.load(damaged(tmp_path, change))
    assert caught.value.tensor == f"{Q_PROJ}.{tensor}"
