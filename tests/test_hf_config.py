"""From config.json to the model: what the config classes take where a key is absent, and a named error for every
value that cannot be meant."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from checkpoints import FULL, SLIDING
from gemmule._core import Decoder, Model
from gemmule.errors import FormatError, UnsupportedError
from golden_cases import FIXTURES
from hostile import tensors, write_folder

IDS = np.arange(3, 40, dtype=np.int32)


def read_config(name: str) -> dict:
    return json.loads((FIXTURES / name / "config.json").read_text())


def logits(folder: Path) -> np.ndarray:
    model = Model.load(str(folder), 1, 0, "float32", "float32")
    return Decoder(model).logits(IDS)


def with_config(name: str, config: dict, folder: Path) -> Path:
    """A fixture's weights with another config."""
    folder.mkdir()
    for path in (FIXTURES / name).glob("model*"):
        shutil.copy(path, folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def without(config: dict, *keys: str) -> dict:
    return {key: value for key, value in config.items() if key not in keys}


# Other spellings of the same model: fixture, and what they do to its text config.
SAME_MODEL = {
    "absent keys": (
        "e2b",
        lambda text: without(
            text,
            "attention_bias",
            "attention_k_eq_v",
            "enable_moe_block",
            "hidden_activation",
            "model_type",
            "num_global_key_value_heads",
            "rms_norm_eps",
            "rope_parameters",
            "tie_word_embeddings",
            "use_bidirectional_attention",
        ),
    ),
    "null rope": ("e2b", lambda text: text | {"rope_parameters": None}),
    "null attention direction": ("dense", lambda text: text | {"use_bidirectional_attention": None}),
    "no experts and no sharing": (
        "dense",
        lambda text: without(text, "num_kv_shared_layers", "use_double_wide_mlp", "enable_moe_block"),
    ),
    "a table of layers": (
        "e2b",
        lambda text: (
            without(text, "global_head_dim") | {"per_layer_config": {"03": {"head_dim": 64}, "6": {"head_dim": 64}}}
        ),
    ),
    "a table of layers with key/value heads": (
        "dense",
        lambda text: (
            without(text, "global_head_dim", "num_global_key_value_heads")
            | {"per_layer_config": {str(i): {"head_dim": 64, "num_key_value_heads": 1} for i in (2, 5)}}
        ),
    ),
    "a table that wins over the older keys": (
        "e2b",
        lambda text: text | {"global_head_dim": 32, "per_layer_config": {str(i): {"head_dim": 64} for i in (3, 6)}},
    ),
    "global heads without attention_k_eq_v": ("e2b", lambda text: text | {"num_global_key_value_heads": 2}),
    "a last layer that is not full": (
        "e2b",
        lambda text: text | {"layer_types": [*text["layer_types"][:-1], SLIDING]},
    ),
    "a kind of rope by its older key": (
        "e2b",
        lambda text: (
            text
            | {
                "rope_parameters": {
                    SLIDING: {
                        "rope_theta": 10000,
                        "factor": 8.0,
                        "partial_rotary_factor": 0.5,
                    },  # "default" ignores both
                    FULL: {"type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25, "factor": 1.0},
                }
            }
        ),
    ),
}


@pytest.mark.parametrize(("name", "change"), SAME_MODEL.values(), ids=SAME_MODEL.keys())
def test_other_spellings_of_the_same_model(tmp_path, name, change):
    config = read_config(name)
    config["text_config"] = change(config["text_config"])
    assert (logits(with_config(name, config, tmp_path / "other")) == logits(FIXTURES / name)).all()


def test_text_config_alone(tmp_path):
    flat = read_config("e2b")["text_config"]
    assert (logits(with_config("e2b", flat, tmp_path / "flat")) == logits(FIXTURES / "e2b")).all()


@pytest.mark.parametrize("nested", [True, False])
def test_unified_has_neither_per_layer_input_nor_experts(tmp_path, nested):
    config = read_config("dense") | {"model_type": "gemma4_unified"}
    ignored = {"hidden_size_per_layer_input": 256, "enable_moe_block": True, "num_experts": 8}
    config["text_config"] |= {"model_type": "gemma4_unified_text"} | ignored
    folder = with_config("dense", config if nested else config["text_config"], tmp_path / "unified")
    assert (logits(folder) == logits(FIXTURES / "dense")).all()


def test_factor_stretches_the_full_layers(tmp_path):
    config = read_config("e2b")
    config["text_config"]["rope_parameters"][FULL]["factor"] = 4.0
    assert np.abs(logits(with_config("e2b", config, tmp_path / "far")) - logits(FIXTURES / "e2b")).max() > 1e-3


def refused(tmp_path: Path, config: object, error: type, message: str):
    """The error that a folder with this config raises. Its weights fit no config: whatever comes is of the config."""
    folder = write_folder(tmp_path / "folder", config, {"model.safetensors": tensors("a")})
    with pytest.raises(error, match=message) as caught:
        Model.load(str(folder), 1, 0, "auto", "auto")
    assert caught.value.file == str(folder / "config.json")
    return caught.value


# Each wrong field of the text config: what it is set to, and what the message says.
WRONG_FIELDS = {
    "vocab_size": [0, -1, 1 << 25, 1 << 63, "640", 640.0, True, None],
    "hidden_size": [0, (1 << 20) + 1],
    "num_hidden_layers": [0, 8, 1001],
    "num_attention_heads": [0, 1 << 13],
    "num_key_value_heads": [0, 3],
    "head_dim": [0, 33, 1 << 15],
    "global_head_dim": [0, 63, None],
    "intermediate_size": [0, 1 << 21],
    "sliding_window": [0, 1 << 25, None],
    "max_position_embeddings": [0, 1 << 25],
    "hidden_size_per_layer_input": [-1, 1 << 21],
    "vocab_size_per_layer_input": [0, 639],
    "num_kv_shared_layers": [-1, 4, 7],  # 4: no full layer is left to share from
    "rms_norm_eps": [0, 0.0, -1e-6, 1e-60, 1e60, "1e-6"],
    "final_logit_softcapping": [0, -30.0, 1e60],
    "layer_types": [[], [FULL], [FULL] * 8, [FULL] * 6 + ["linear_attention"], [FULL] * 6 + [1], "full_attention"],
    "attention_bias": [0, None],
    "attention_k_eq_v": ["false"],
    "enable_moe_block": [1],
    "use_double_wide_mlp": [None],
    "tie_word_embeddings": [1],
    "hidden_activation": [None],
    "use_bidirectional_attention": ["audio", True],
    "model_type": ["gemma4_unified_text", "gemma4_vision", 4],
    "per_layer_config": [
        [],
        {"7": {"head_dim": 64}},
        {"-1": {"head_dim": 64}},
        {"": {"head_dim": 64}},
        {"3x": {"head_dim": 64}},
        {"3": 64},
        {"3": {"head_dim": 0}},
        {"3": {"num_key_value_heads": None}},
        {"3": {"head_dim": 64}, "03": {"head_dim": 64}},
        {"3": {"head_dim": 64}},  # layer 6 is full too
        {"3": {"num_key_value_heads": 2}},
    ],
    "rope_parameters": [
        {},
        [],
        {FULL: {"rope_theta": 1e6}},
        {FULL: None, SLIDING: {"rope_theta": 1e4}},
        {FULL: {"rope_type": "default"}, SLIDING: {"rope_theta": 1e4}},
        {FULL: {"rope_theta": 0}, SLIDING: {"rope_theta": 1e4}},
        {FULL: {"rope_theta": 1e6}, SLIDING: {"rope_theta": "1e4"}},
        *(
            {FULL: {"rope_theta": 1e6, "rope_type": "proportional"} | wrong, SLIDING: {"rope_theta": 1e4}}
            for wrong in [
                {"partial_rotary_factor": 0},
                {"partial_rotary_factor": 1.5},
                {"partial_rotary_factor": None},
                {"factor": 0.0},
                {"factor": -1},
                {"rope_type": None},
            ]
        ),
    ],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG_FIELDS.items() for value in values])
def test_wrong_field(tmp_path, key, value):
    config = read_config("e2b")
    if key == "tie_word_embeddings":
        del config[key]  # the outer key would count
    config["text_config"][key] = value
    refused(tmp_path, config, FormatError, "text_config")


EXPERTS = {"enable_moe_block": True, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 32}


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_experts": None},
        {"num_experts": 0},
        {"num_experts": 1 << 13},
        {"top_k_experts": 0},
        {"top_k_experts": 9},
        {"moe_intermediate_size": None},
        {"moe_intermediate_size": 0},
    ],
)
def test_experts_need_their_sizes(tmp_path, wrong):
    config = read_config("e2b")
    config["text_config"] |= EXPERTS | wrong
    refused(tmp_path, config, FormatError, next(iter(wrong)))


def test_error_names_key_range_and_finding(tmp_path):
    config = read_config("e2b")
    config["text_config"]["head_dim"] = -4
    error = refused(tmp_path, config, FormatError, r"text_config\.head_dim")
    assert (error.tensor, error.expected, error.found) == ("text_config.head_dim", "1 to 16384", "-4")


@pytest.mark.parametrize("config", [[], 1, None, {}, {"model_type": None}, {"model_type": "gemma4"}])
def test_config_without_what_has_no_default(tmp_path, config):
    refused(tmp_path, config, FormatError, "missing|wrong type")


def test_damaged_config(tmp_path):
    folder = write_folder(tmp_path / "folder", {}, {"model.safetensors": tensors("a")})
    whole = json.dumps(read_config("e2b")).encode()
    for damaged in [whole[:-1], b"version https://git-lfs.github.com/spec/v1\n", b"<html>", b"", whole + whole]:
        (folder / "config.json").write_bytes(damaged)
        with pytest.raises(FormatError) as error:
            Model.load(str(folder), 1, 0, "auto", "auto")
        assert error.value.file == str(folder / "config.json")


# Features that no code runs yet: where they stand, what they are, and what the message says.
UNSUPPORTED = {
    "biases": ("text", {"attention_bias": True}, "attention_bias"),
    "activation": ("text", {"hidden_activation": "silu"}, 'hidden_activation.*"silu"'),
    "both directions": ("text", {"use_bidirectional_attention": "all"}, "both directions"),
    "a field per layer": ("text", {"per_layer_config": {"3": {"sliding_window": 4}}}, '"sliding_window"'),
    "another rope": (
        "text",
        {
            "rope_parameters": {
                FULL: {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0},
                SLIDING: {"rope_theta": 1e4},
            }
        },
        '"yarn"',
    ),
    "gptq in the text config": ("text", {"quantization_config": {"quant_method": "gptq"}}, "gptq"),
}
UNSUPPORTED |= {
    name: ("root", {"model_type": name}, f'"{name}"')
    for name in ("llama", "gemma2", "gemma3", "gemma3n", "gemma4_assistant", "Gemma4")
}
UNSUPPORTED |= {
    name: ("root", {"quantization_config": {"quant_method": name}}, f'"{name}"')
    for name in ("awq", "gptq", "bitsandbytes", "fp8", "fbgemm_fp8", "mxfp4", "hqq", "quanto", "torchao", "modelopt")
}


@pytest.mark.parametrize(("place", "change", "message"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_unsupported_features_are_named(tmp_path, place, change, message):
    config = copy.deepcopy(read_config("e2b"))
    (config["text_config"] if place == "text" else config).update(change)
    error = refused(tmp_path, config, UnsupportedError, message)
    assert error.remedy
    assert error.found


@pytest.mark.parametrize("quantization", [{}, {"quant_method": None}, {"quant_method": 4}, "gemma", []])
def test_quantization_without_a_method(tmp_path, quantization):
    config = read_config("e2b") | {"quantization_config": quantization}
    refused(tmp_path, config, FormatError, "quantization_config")
