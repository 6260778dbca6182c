"""From config.json to the model: what the config classes take where a key is absent, and a named error for every
value that cannot be meant."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from checkpoints import FULL, SLIDING
from gemmule._core import Decoder, Model
from gemmule.errors import FormatError
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


def test_error_names_key_range_and_finding(tmp_path):
    config = read_config("e2b")
    config["text_config"]["head_dim"] = -4
    error = refused(tmp_path, config, FormatError, r"text_config\.head_dim")
    assert (error.tensor, error.expected, error.found) == ("text_config.head_dim", "1 to 16384", "-4")
