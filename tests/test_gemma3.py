"""Gemma 3's text models, which are read from GGUF: against the numpy reference, set to what that generation does."""

from dataclasses import replace

import numpy as np
import pytest

import gemmule
from checkpoints import FULL, SLIDING, make_checkpoint
from gemmule.reference import Reference
from gguf_models import floats
from hostile_gguf import ARRAY, BOOL, F32, STRING, U32, Array, Gguf

IDS = np.random.default_rng(1).integers(3, 160, 40).astype(np.int32)
LOGIT_BOUND = 2e-3


def make(
    folder, types: list[str], keys: dict, *, query_scale: float, factor: float = 1.0, theta: float = 1e4, **config
):
    """A model in F32 as llama.cpp's converter writes it, with `keys` beside the usual ones; and its reference."""
    make_checkpoint(
        folder / "hf",
        dtype="F32",
        text_only=True,
        layer_types=types,
        num_kv_shared_layers=0,
        hidden_size_per_layer_input=0,
        final_logit_softcapping=None,
        global_head_dim=32,
        num_key_value_heads=2,
        rope_parameters={
            SLIDING: {"rope_type": "default", "rope_theta": theta},
            FULL: {"rope_type": "linear", "rope_theta": 1e6, "factor": factor},
        },
        **config,
    )
    reference = Reference(folder / "hf")
    layers = reference.config.layers
    if types[-1] == SLIDING:  # Gemma 4's config class makes it full
        layers = (*layers[:-1], replace(layers[0], owner=len(layers) - 1))
    reference.config = replace(reference.config, layers=layers, norms_values=False, query_scale=query_scale)
    tensors = []
    for name, value in list(reference.tensors.items()):
        if name.endswith("layer_scalar"):
            reference.tensors[name] = np.ones_like(value)  # Gemma 3 has none
        else:
            tensors.append(floats(name.removeprefix("model."), value))
    c = reference.config
    said = {
        "context_length": (U32, 512),
        "embedding_length": (U32, c.hidden_size),
        "block_count": (U32, len(types)),
        "feed_forward_length": (U32, c.layers[0].mlp_width),
        "attention.head_count": (U32, c.heads),
        "attention.head_count_kv": (U32, 2),
        "attention.layer_norm_rms_epsilon": (F32, c.eps),
        "attention.key_length": (U32, 32),
        "attention.value_length": (U32, 32),
        "attention.sliding_window": (U32, c.window),
        "rope.freq_base": (F32, 1e6),
    } | keys
    file = Gguf(
        {"general.architecture": (STRING, "gemma3")} | {f"gemma3.{key}": value for key, value in said.items()}, tensors
    )
    return file.write(folder / "model.gguf"), reference


def assert_logits(path, reference: Reference) -> None:
    model = gemmule.load(path)
    assert model.info["model_type"] == "gemma3"
    assert model.info["unknown_tensors"] == model.info["leftover_tensors"] == []
    assert np.abs(model.logits(IDS) - reference.logits(IDS)).max() <= LOGIT_BOUND
    found = gemmule.inspect(path)
    assert (found.model_type, found.parameters) == ("gemma3", model.info["parameters"])
    assert found.unknown == found.leftovers == ()
    decoder = model._new_decoder()
    decoder.prefill(IDS)
    assert gemmule.estimate(path, len(IDS)).kv_cache == decoder.cache_bytes


def every(period: int, layers: int) -> list[str]:
    return [FULL if i % period == 0 else SLIDING for i in range(1, layers + 1)]


def test_as_small_models_are_written(tmp_path):
    """Without a pattern (every sixth layer is full) and without the second rope base (10,000)."""
    assert_logits(*make(tmp_path, every(6, 7), {}, query_scale=32**-0.5))


@pytest.mark.parametrize("pattern", [(U32, 3), (ARRAY, Array(BOOL, [True, True, False, True]))])
def test_as_large_models_are_written(tmp_path, pattern):
    """With stretched positions on full layers only."""
    keys = {
        "attention.sliding_window_pattern": pattern,
        "rope.freq_base_swa": (F32, 5e3),
        "rope.scaling.type": (STRING, "linear"),
        "rope.scaling.factor": (F32, 8.0),
    }
    made = make(tmp_path, every(3, 4), keys, query_scale=32**-0.5, factor=8.0, theta=5e3, tie_word_embeddings=False)
    assert_logits(*made)


def test_27b_scales_queries_by_another_rule(tmp_path):
    """It is the size of 62 layers; D / H differs from E there."""
    made = make(tmp_path, every(6, 62), {}, query_scale=(96 / 4) ** -0.5, hidden_size=96, intermediate_size=32)
    assert_logits(*made)


def test_other_ways_to_stretch_positions_are_refused(tmp_path):
    path, _ = make(tmp_path, every(6, 2), {"rope.scaling.type": (STRING, "yarn")}, query_scale=1.0)
    with pytest.raises(gemmule.UnsupportedError, match='"yarn"') as error:
        gemmule.load(path)
    assert error.value.tensor == "gemma3.rope.scaling.type"
