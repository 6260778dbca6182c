"""Parameter counts of the five published sizes, from their configs alone."""

import pytest

from gemmule.shapes import TextShape

SLIDING, FULL = "sliding_attention", "full_attention"

COMMON = {"vocab_size": 262144, "head_dim": 256, "global_head_dim": 512, "vocab_size_per_layer_input": 262144}
SMALL = COMMON | {"num_attention_heads": 8, "hidden_size_per_layer_input": 256, "tie_word_embeddings": True}
LARGE = COMMON | {"hidden_size_per_layer_input": 0, "attention_k_eq_v": True, "num_kv_shared_layers": 0}

# The text fields of the published config.json files that give a model its size.
CONFIGS = {
    "E2B": SMALL
    | {
        "hidden_size": 1536,
        "num_hidden_layers": 35,
        "intermediate_size": 6144,
        "num_key_value_heads": 1,
        "layer_types": ([SLIDING] * 4 + [FULL]) * 7,
        "num_kv_shared_layers": 20,
        "use_double_wide_mlp": True,
    },
    "E4B": SMALL
    | {
        "hidden_size": 2560,
        "num_hidden_layers": 42,
        "intermediate_size": 10240,
        "num_key_value_heads": 2,
        "layer_types": ([SLIDING] * 5 + [FULL]) * 7,
        "num_kv_shared_layers": 18,
    },
    "12B": LARGE
    | {
        "model_type": "gemma4_unified_text",
        "hidden_size": 3840,
        "num_hidden_layers": 48,
        "intermediate_size": 15360,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 1,
    },
    "26B-A4B": LARGE
    | {
        "hidden_size": 2816,
        "num_hidden_layers": 30,
        "intermediate_size": 2112,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "enable_moe_block": True,
        "num_experts": 128,
        "moe_intermediate_size": 704,
    },
    "31B": LARGE
    | {
        "hidden_size": 5376,
        "num_hidden_layers": 60,
        "intermediate_size": 21504,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "num_global_key_value_heads": 4,
    },
}

# Counted by instantiating the reference implementation without weights.
COUNTS = {
    "E2B": {
        "embeddings": 402_653_184,
        "per-layer embeddings": 2_348_810_240,
        "per-layer inputs": 13_762_560 + 27_525_120,
        "attention": 278_412_288,
        "mlp": 1_557_135_360,
        "norms and scalars": 270_627,
    },
    "E4B": {
        "embeddings": 671_088_640,
        "per-layer embeddings": 2_818_572_288,
        "per-layer inputs": 27_525_120 + 55_050_240,
        "attention": 587_222_272,
        "mlp": 3_303_014_400,
        "norms and scalars": 540_458,
    },
    "12B": {
        "embeddings": 1_006_632_960,
        "attention": 2_406_510_592,
        "mlp": 8_493_465_600,
        "norms and scalars": 741_168,
    },
    "26B-A4B": {
        "embeddings": 738_197_504,
        "attention": 1_110_197_760,
        "mlp": 535_265_280,
        "experts": 22_837_985_280,
        "norms and scalars": 11_495_966,
    },
    "31B": {
        "embeddings": 1_409_286_144,
        "attention": 8_477_772_800,
        "mlp": 20_808_990_720,
        "norms and scalars": 1_295_676,
    },
}


@pytest.mark.parametrize("size", CONFIGS)
def test_counts_of_the_published_sizes(size):
    assert TextShape.read(CONFIGS[size]).parameters() == COUNTS[size]


def test_a_nested_config_is_read_and_its_own_tie_counts():
    nested = {"model_type": "gemma4", "text_config": CONFIGS["E2B"], "tie_word_embeddings": False}
    untied = TextShape.read(nested).parameters()
    assert untied == COUNTS["E2B"] | {"head": 402_653_184}


def test_heads_of_single_layers():
    spelled = {k: v for k, v in CONFIGS["31B"].items() if "global" not in k}
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
