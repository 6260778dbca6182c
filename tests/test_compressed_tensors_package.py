"""Folders that the compressed-tensors package writes itself, from transformers' models."""

import json
from pathlib import Path

import numpy as np
import pytest

import gemmule
from checkpoints import make_checkpoint, write_safetensors
from compressed_folders import dequantized
from gemmule.checkpoints.shapes import TextShape
from gemmule.reference import Reference
from gemmule.reference.operations import decode, unpack_codes
from gemmule.reference.safetensors import bf16_to_f32, f32_to_bf16, read_folder
from golden_cases import MOBILE_FIXTURES, read_case
from test_golden import LOGIT_BOUND

WHY = "the extra `oracle` is not installed"
torch = pytest.importorskip("torch", reason=WHY)
transformers = pytest.importorskip("transformers", reason=WHY)
quantization = pytest.importorskip("compressed_tensors.quantization", reason=WHY)
compressors = pytest.importorskip("compressed_tensors.compressors", reason=WHY)
parameters = pytest.importorskip("compressed_tensors.quantization.utils", reason=WHY)

pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages
torch.set_num_threads(1)  # the models are tiny

INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor", "dynamic": False}


def weights(bits: int, group: int | None) -> dict:
    """How weights are rounded: a scale for `group` neighbours, or for a row."""
    layout = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    return {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False} | layout


def compress(source: Path, target: Path, groups: dict, *, ignore=(), scales=None, dtype="bfloat16"):
    """Writes a float checkpoint compressed, and returns the model as the package gives it back.

    Args:
        groups: config_groups.
        ignore: modules that stay as they are.
        scales: full name -> value of weight_scale, input_scale or output_scale. Scales of weights that are not given
            are the package's own, from each group's range.
        dtype: of what is not compressed.
    """
    config = json.loads((source / "config.json").read_text())
    kind = "Gemma4ForConditionalGeneration" if "text_config" in config else "Gemma4ForCausalLM"
    model = getattr(transformers, kind).from_pretrained(source, dtype=torch.float32)
    scheme = quantization.QuantizationConfig(config_groups=groups, ignore=list(ignore))
    quantization.apply_quantization_config(model, scheme, show_progress=False)
    for name, module in model.named_modules():
        if not hasattr(module, "quantization_scheme"):
            continue
        own = {f"{name}.weight_scale": own_scale(module), **(scales or {})}
        for what in ("weight_scale", "input_scale", "output_scale"):
            if hasattr(module, what):
                value = torch.as_tensor(own[f"{name}.{what}"]).reshape(getattr(module, what).shape)
                setattr(module, what, torch.nn.Parameter(value, requires_grad=False))
    compressor = compressors.ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and not name.endswith("_scale"):
            parameter.data = parameter.data.to(getattr(torch, dtype))
    model.save_pretrained(target)
    compressor.update_config(str(target))
    compressor.decompress_model(model)
    return model


def own_scale(module) -> "torch.Tensor":
    """(rows, groups) bfloat16, as Google's files have them."""
    args = module.quantization_scheme.weights
    groups = module.weight.unflatten(1, (-1, args.group_size or module.weight.shape[1]))
    scale, _ = parameters.calculate_qparams(groups.amin(2), groups.amax(2), args)
    return scale.to(torch.bfloat16)


# Weights in groups of 32, activations as they are


@pytest.mark.parametrize("name", ["dense", "e4b", "share_order", "moe"])
def test_w4a16(tmp_path, name):
    """The experts of `moe` are no modules to the package: it leaves them as they are. Rows of half a group, as one
    matrix of `share_order` has them, it cannot write."""
    case = read_case(name)
    groups = {"group_0": {"targets": ["Linear"], "weights": weights(4, 32), "format": "pack-quantized"}}
    ignore = ["lm_head", "re:.*per_layer_model_projection$", "re:.*router.*"]
    ignore += ["re:.*per_layer_projection$"] if name == "share_order" else []
    written = compress(case.folder, tmp_path / "ct", groups, ignore=ignore)
    plain = dequantized(tmp_path / "ct", tmp_path / "plain")
    values = read_folder(plain)
    packed = read_folder(tmp_path / "ct").keys()
    for module, weight in written.state_dict().items():
        if module.removesuffix(".weight") + ".weight_packed" in packed:
            assert np.array_equal(bf16_to_f32(f32_to_bf16(values[module])), weight.float().numpy()), module

    model = gemmule.load(tmp_path / "ct", activations="float32", kv="float32")
    assert model.info["encodings"]["g4"] > 10
    assert model.info["unknown_tensors"] == []
    assert np.abs(model.logits(case.ids) - Reference(plain).logits(case.ids)).max() <= LOGIT_BOUND


def test_static_activations_of_groups(tmp_path):
    """The package packs them as it is told to, and not as it would by itself."""
    case = read_case("dense")
    scheme = {"targets": ["re:.*self_attn.*_proj$"], "weights": weights(4, 32), "input_activations": INT8}
    scales = {
        name.removesuffix(".weight") + ".input_scale": np.float32([0.03])
        for name in read_folder(case.folder)
        if ".self_attn." in name
    }
    groups = {"group_0": scheme | {"format": "pack-quantized"}}
    compress(case.folder, tmp_path / "ct", groups, scales=scales)
    reference = Reference(dequantized(tmp_path / "ct", tmp_path / "plain"), np.float32)
    model = gemmule.load(tmp_path / "ct", kv="float32")
    assert model.info["unknown_tensors"] == []
    errors = [np.abs(model.logits(row)[-1] - reference.logits(row)[-1]).max() for row in case.ids.reshape(-1, 8)]
    assert sum(error <= 5e-3 for error in errors) >= 8


# A scale a row. Rows need not end with a word.


@pytest.mark.parametrize(("bits", "width"), [(2, 44), (4, 44), (8, 44), (4, 42), (8, 45), (2, 64), (8, 64)])
def test_weights_with_a_scale_a_row(tmp_path, bits, width):
    source = make_checkpoint(tmp_path / "float", hidden_size=width, intermediate_size=76, dtype="F32")
    groups = {"group_0": {"targets": ["Linear", "Embedding"], "weights": weights(bits, None)}}
    compress(source, tmp_path / "ct", groups, ignore=["lm_head"], dtype="float32")
    model = gemmule.load(tmp_path / "ct", kv="float32")
    assert model.info["encodings"].keys() == {{2: "c2", 4: "c4", 8: "u8"}[bits]}
    ids = np.arange(3, 90, dtype=np.int32)
    reference = Reference(dequantized(tmp_path / "ct", tmp_path / "plain"))
    assert np.abs(model.logits(ids) - reference.logits(ids)).max() <= LOGIT_BOUND


@pytest.mark.parametrize(("bits", "width"), [(2, 42), (2, 45), (4, 45)])
def test_rows_that_end_inside_a_byte(tmp_path, bits, width):
    source = make_checkpoint(tmp_path / "float", hidden_size=width, dtype="F32")
    groups = {"group_0": {"targets": ["Linear"], "weights": weights(bits, None)}}
    compress(source, tmp_path / "ct", groups, ignore=["lm_head"])
    with pytest.raises(gemmule.FormatError, match="whole bytes") as error:
        gemmule.load(tmp_path / "ct")
    assert error.value.tensor.endswith("weight_packed")


# The mobile format


def with_bf16_scales(source: Path, target: Path) -> Path:
    """A mobile checkpoint whose weights' scales are rounded to bfloat16."""
    tensors = {
        name: bf16_to_f32(f32_to_bf16(value)) if name.endswith(("weight_scale", "embedding_scale")) else value
        for name, value in read_folder(source).items()
    }
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    write_safetensors(target / "model.safetensors", tensors)
    return target


def compress_mobile(source: Path, target: Path, scale_dtype: str, *, packed: bool) -> Path:
    """A mobile checkpoint as floats, compressed with its own scales.

    Args:
        scale_dtype: of the weights' scales; they are not rounded here.
        packed: 2 and 4 bits in words also where inputs have static scales; the package itself would take bytes.
    """
    tensors = read_folder(source)
    config = json.loads((source / "config.json").read_text())
    floats, scales, groups = {}, {}, {}
    for module, (_, columns) in TextShape.read(config).matrices().items():
        name = module if module == "lm_head" else "model.language_model." + module
        table = name + ".embedding_quantized" in tensors
        scale = tensors.get(name + (".embedding_scale" if table else ".weight_scale"))
        if scale is None:
            continue
        stored = tensors[name + (".embedding_quantized" if table else ".weight")]
        bits = 8 * stored.shape[1] // columns
        floats[name + ".weight"] = decode(unpack_codes(stored, bits), scale, np.float32)
        scales[name + ".weight_scale"] = torch.tensor(scale).to(getattr(torch, scale_dtype))
        scheme = {"weights": weights(bits, columns // scale.shape[1] if scale.shape[1] > 1 else None)}
        for side in ("input", "output"):
            if value := tensors.get(f"{name}.{side}_activation_scale", 0.0):  # 0: not calibrated
                scales[f"{name}.{side}_scale"] = value
                scheme[side + "_activations"] = INT8
        if packed:
            scheme["format"] = "int-quantized" if bits == 8 else "pack-quantized"
        groups.setdefault(json.dumps(scheme), scheme | {"targets": []})["targets"].append(name)
    plain = target.with_name(target.name + "-floats")
    plain.mkdir()
    del config["quantization_config"]
    (plain / "config.json").write_text(json.dumps(config))
    vectors = {name: value for name, value in tensors.items() if name.endswith(("norm.weight", "layer_scalar"))}
    projection = "model.language_model.per_layer_model_projection.weight"
    write_safetensors(plain / "model.safetensors", floats | vectors | {projection: tensors[projection]})
    compress(plain, target, {f"group_{i}": each for i, each in enumerate(groups.values())}, scales=scales)
    return target


@pytest.mark.parametrize("name", MOBILE_FIXTURES)  # per-layer embedding with a scale a row, and in groups
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("scale_dtype", ["float32", "bfloat16"])
def test_mobile(tmp_path, name, packed, scale_dtype):
    """The bits of the mobile fixture, or of the same with its scales in bfloat16."""
    case = read_case(name)
    same = case.folder if scale_dtype == "float32" else with_bf16_scales(case.folder, tmp_path / "same")
    folder = compress_mobile(same, tmp_path / "ct", scale_dtype, packed=packed)
    stored = {name: value.dtype for name, value in read_folder(folder).items()}
    assert sum(dtype == np.int32 for dtype in stored.values()) == (46 if packed else 3)

    model = gemmule.load(folder, kv="float32")
    assert model.info["activations"] == "static"
    assert model.info["unknown_tensors"] == []
    logits = model.logits(case.ids)
    assert np.array_equal(logits, gemmule.load(same, kv="float32").logits(case.ids))
    distance = np.abs(logits - case.golden["logits"]).mean()
    assert distance <= (0.5 if scale_dtype == "float32" else 1.0)
