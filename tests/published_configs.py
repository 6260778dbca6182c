"""The five published sizes: text fields of their config.json, and their parameters."""

SLIDING, FULL = "sliding_attention", "full_attention"

COMMON = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "dtype": "bfloat16",
    "enable_moe_block": False,
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "global_head_dim": 512,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "initializer_range": 0.02,
    "moe_intermediate_size": None,
    "num_experts": None,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {
        FULL: {"partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0, "rope_type": "proportional"},
        SLIDING: {"rope_theta": 10_000.0, "rope_type": "default"},
    },
    "tie_word_embeddings": True,
    "top_k_experts": None,
    "use_cache": True,
    "use_double_wide_mlp": False,
    "vocab_size": 262_144,
    "vocab_size_per_layer_input": 262_144,
}
SMALL = COMMON | {
    "attention_k_eq_v": False,
    "hidden_size_per_layer_input": 256,
    "max_position_embeddings": 131_072,
    "num_attention_heads": 8,
    "num_global_key_value_heads": None,
    "sliding_window": 512,
    "use_bidirectional_attention": None,
}
LARGE = COMMON | {
    "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 0,
    "max_position_embeddings": 262_144,
    "num_kv_shared_layers": 0,
    "sliding_window": 1024,
    "use_bidirectional_attention": "vision",
}

TEXTS = {
    "E2B": SMALL
    | {
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "layer_types": ([SLIDING] * 4 + [FULL]) * 7,
        "num_hidden_layers": 35,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 20,
        "use_double_wide_mlp": True,
    },
    "E4B": SMALL
    | {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "layer_types": ([SLIDING] * 5 + [FULL]) * 7,
        "num_hidden_layers": 42,
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 18,
    },
    "12B": {key: value for key, value in LARGE.items() if "per_layer" not in key and "expert" not in key}
    | {
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "layer_types": ([SLIDING] * 5 + [FULL]) * 8,
        "num_attention_heads": 16,
        "num_global_key_value_heads": 1,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
    },
    "26B-A4B": LARGE
    | {
        "enable_moe_block": True,
        "hidden_size": 2816,
        "intermediate_size": 2112,
        "layer_types": ([SLIDING] * 5 + [FULL]) * 5,
        "moe_intermediate_size": 704,
        "num_attention_heads": 16,
        "num_experts": 128,
        "num_global_key_value_heads": 2,
        "num_hidden_layers": 30,
        "num_key_value_heads": 8,
        "top_k_experts": 8,
    },
    "31B": LARGE
    | {
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "layer_types": ([SLIDING] * 5 + [FULL]) * 10,
        "num_attention_heads": 32,
        "num_global_key_value_heads": 4,
        "num_hidden_layers": 60,
        "num_key_value_heads": 16,
    },
}


def published(size: str) -> dict:
    """config.json without the fields of the towers, which differ from size to size and concern no text."""
    family = "gemma4_unified" if size == "12B" else "gemma4"
    return {
        "architectures": [
            "Gemma4UnifiedForConditionalGeneration" if size == "12B" else "Gemma4ForConditionalGeneration"
        ],
        "audio_token_id": 258_881,
        "dtype": "bfloat16",
        "image_token_id": 258_880,
        "model_type": family,
        "text_config": TEXTS[size] | {"model_type": family + "_text"},
        "tie_word_embeddings": True,
        "video_token_id": 258_884,
    }


CONFIGS = {size: published(size) for size in TEXTS}

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

# Of the checkpoints with their towers, the tied head counted once.
TOTALS = {
    "E2B": 5_104_298_467,
    "E4B": 7_941_101_802,
    "12B": 11_959_730_224,
    "26B-A4B": 25_805_936_206,
    "31B": 31_273_088_876,
}
TOWERS = {
    "E2B": 168_544_704 + 307_184_384,
    "E4B": 169_331_136 + 308_757_248,
    "12B": 49_922_304 + 2_457_600,
    "26B-A4B": 572_794_416,
    "31B": 575_743_536,
}
