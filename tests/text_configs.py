"""What the engine says of a folder's config, made of its config.json in plain Python."""

import json
from pathlib import Path

from gemmule.checkpoints.shapes import TextShape
from gemmule.conversion.text_config import FULL, SLIDING, LayerConfig, RopeParameters, TextConfig


def text_config(folder: Path) -> TextConfig:
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    shape = TextShape.read(config)
    ropes = text["rope_parameters"]
    layers = [
        LayerConfig(FULL if each.full else SLIDING, each.head_dim, each.kv_heads, each.mlp_width, each.has_v_proj)
        for each in shape.layers
    ]
    return TextConfig(
        vocab_size=shape.vocab_size,
        vocab_size_per_layer_input=shape.per_layer_rows if shape.per_layer_width else 0,
        hidden_size=shape.hidden_size,
        hidden_size_per_layer_input=shape.per_layer_width,
        num_attention_heads=shape.heads,
        num_kv_shared_layers=text["num_kv_shared_layers"],
        sliding_window=shape.window,
        max_position_embeddings=shape.max_context,
        rms_norm_eps=text["rms_norm_eps"],
        final_logit_softcapping=text["final_logit_softcapping"],
        tie_word_embeddings=shape.tied,
        rope_sliding=_rope(ropes[SLIDING]),
        rope_full=_rope(ropes[FULL]),
        layers=tuple(layers),
        num_experts=shape.experts,
        top_k_experts=text["top_k_experts"] or 0,
        moe_intermediate_size=shape.expert_width,
    )


def _rope(said: dict) -> RopeParameters:
    return RopeParameters(said["rope_theta"], said.get("partial_rotary_factor", 1.0), said.get("factor", 1.0))
