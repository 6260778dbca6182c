"""Parameter counts of the five published sizes, from their configs alone."""

import pytest

from gemmule.checkpoints.shapes import TextShape
from published_configs import CONFIGS, COUNTS, TEXTS, TOTALS, TOWERS


@pytest.mark.parametrize("size", CONFIGS)
def test_counts_of_the_published_sizes(size):
    assert TextShape.read(CONFIGS[size]).parameters() == COUNTS[size]
    assert TextShape.read(CONFIGS[size]["text_config"]).parameters() == COUNTS[size]
    assert sum(COUNTS[size].values()) + TOWERS[size] == TOTALS[size]


def test_the_tie_of_the_whole_checkpoint_counts():
    untied = TextShape.read(CONFIGS["E2B"] | {"tie_word_embeddings": False}).parameters()
    assert untied == COUNTS["E2B"] | {"head": 402_653_184}


def test_heads_of_single_layers():
    spelled = {key: value for key, value in TEXTS["31B"].items() if "global" not in key}
    spelled["per_layer_config"] = {str(i): {"head_dim": 512, "num_key_value_heads": 4} for i in range(5, 60, 6)}
    assert TextShape.read(spelled).parameters() == COUNTS["31B"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.language_model.layers.3.self_attn.q_norm", "attention"),
        ("model.layers.14.self_attn.k_proj", "attention"),
        ("model.layers.15.self_attn.k_proj", "leftovers"),
        ("model.layers.15.self_attn.v_cache_scale", "leftovers"),
        ("model.layers.2.post_per_layer_input_norm", "norms and scalars"),
        ("model.layers.2.per_layer_projection", "per-layer inputs"),
        ("model.vision_tower.encoder.layers.0.self_attn.q_proj.linear", "towers"),
        ("model.layers.35.mlp.up_proj", "unknown"),
        ("model.layers.2.surprise", "unknown"),
        ("lm_head", "leftovers"),
    ],
)
def test_kinds(name, kind):
    assert TextShape.read(CONFIGS["E2B"]).kind(name) == kind
