"""The fields of config.json that the text decoder needs, with the defaults of the model's config class."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_ROPE: dict[str, dict[str, Any]] = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
}


# Of a multimodal config; a text-only one has none.
PLACEHOLDERS = {"image_token_id": 258880, "video_token_id": 258884, "audio_token_id": 258881}


@dataclass(frozen=True)
class Layer:
    """One layer. Letters as in `cpp/model/config.h`."""

    full: bool  # sees every earlier key; otherwise the last `window` ones
    head_dim: int  # E
    kv_heads: int  # G
    mlp_width: int  # F
    has_v_proj: bool
    owner: int  # the layer whose keys and values this one reads; often itself; -1: another model's
    theta: float
    rotary_share: float
    rope_factor: float


@dataclass(frozen=True)
class Config:
    """The whole decoder."""

    hidden_size: int  # D
    vocab_size: int  # V
    heads: int  # H
    window: int  # W
    per_layer_width: int  # P, 0: none
    experts: int  # X, 0: none
    experts_per_token: int
    expert_width: int  # M
    eps: float
    softcap: float  # 0: none
    tied: bool
    pad_id: int
    placeholder_ids: tuple[int, ...]  # of images, videos and audio; without these, the pad token is embedded
    layers: tuple[Layer, ...]
    # Gemma 3 has False, and 1 / sqrt(E) for most sizes; its checkpoints are read by gemmule as GGUF only.
    norms_values: bool = True
    query_scale: float = 1.0


def read_config(folder: Path) -> Config:
    """From `config.json` of a checkpoint's folder."""
    whole = json.loads(Path(folder, "config.json").read_text())
    text = whole.get("text_config", whole)
    count = text.get("num_hidden_layers", 30)
    types = list(
        text.get("layer_types") or ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(count)]
    )
    types[-1] = "full_attention"  # the config class forces it
    first_shared = count - text.get("num_kv_shared_layers", 0)

    def layer(i: int) -> Layer:
        full = types[i] == "full_attention"
        own = (text.get("per_layer_config") or {}).get(str(i), {})
        head_dim, kv_heads = text.get("head_dim", 256), text.get("num_key_value_heads", 4)
        k_eq_v = full and text.get("attention_k_eq_v", False)
        if full and not text.get("per_layer_config"):
            head_dim = text.get("global_head_dim") or 512
        if k_eq_v:
            kv_heads = text.get("num_global_key_value_heads") or kv_heads
        rope = (text.get("rope_parameters") or DEFAULT_ROPE)[types[i]]
        double = text.get("use_double_wide_mlp", False) and i >= first_shared
        return Layer(
            full=full,
            head_dim=own.get("head_dim", head_dim),
            kv_heads=own.get("num_key_value_heads", kv_heads),
            mlp_width=text.get("intermediate_size", 9216) * (2 if double else 1),
            has_v_proj=not k_eq_v,
            owner=i if i < first_shared else max((j for j in range(first_shared) if types[j] == types[i]), default=-1),
            theta=rope["rope_theta"],
            rotary_share=rope.get("partial_rotary_factor", 1.0) if rope["rope_type"] == "proportional" else 1.0,
            rope_factor=rope.get("factor", 1.0),
        )

    moe = text.get("enable_moe_block", False)
    return Config(
        hidden_size=text.get("hidden_size", 2304),
        vocab_size=text.get("vocab_size", 262144),
        heads=text.get("num_attention_heads", 8),
        window=text.get("sliding_window", 512),
        per_layer_width=text.get("hidden_size_per_layer_input", 256),
        experts=text["num_experts"] if moe else 0,
        experts_per_token=text["top_k_experts"] if moe else 0,
        expert_width=text["moe_intermediate_size"] if moe else 0,
        eps=text.get("rms_norm_eps", 1e-6),
        softcap=text.get("final_logit_softcapping") or 0.0,
        tied=text.get("tie_word_embeddings", whole.get("tie_word_embeddings", True)),
        pad_id=text.get("pad_token_id", 0),
        placeholder_ids=tuple(whole.get(name, i) for name, i in PLACEHOLDERS.items()) if "text_config" in whole else (),
        layers=tuple(layer(i) for i in range(count)),
    )
