"""Hugging Face folders as GGUF files: names, metadata and types as llama.cpp's converter gives them, in BF16."""

import json
from pathlib import Path

import numpy as np

from gemmule.reference.config import read_config
from gemmule.reference.safetensors import f32_to_bf16, read_folder
from hostile_gguf import ARRAY, BOOL, F32, STRING, TYPES, U32, Array, Gguf, Tensor

MODEL = {
    "embed_tokens.weight": "token_embd.weight",
    "embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "norm.weight": "output_norm.weight",
    "per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
}
LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "layer_scalar": "layer_output_scale.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "per_layer_input_gate.weight": "inp_gate.weight",
    "per_layer_projection.weight": "proj.weight",
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    "post_per_layer_input_norm.weight": "post_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "experts.down_proj": "ffn_down_exps.weight",
    "experts.gate_up_proj": "ffn_gate_up_exps.weight",
    "post_feedforward_layernorm_1.weight": "post_ffw_norm_1.weight",
    "post_feedforward_layernorm_2.weight": "post_ffw_norm_2.weight",
    "pre_feedforward_layernorm_2.weight": "pre_ffw_norm_2.weight",
    "router.per_expert_scale": "ffn_down_exps.scale",
    "router.proj.weight": "ffn_gate_inp.weight",
    "router.scale": "ffn_gate_inp.scale",
}


def as_gguf(folder: Path) -> Gguf:
    """A float checkpoint with a tied head, without its tokenizer."""
    config = read_config(folder)
    whole = json.loads((folder / "config.json").read_text())
    text = whole.get("text_config", whole)
    full = next(layer for layer in config.layers if layer.full)
    sliding = next(layer for layer in config.layers if not layer.full)

    def each(values: list[int]) -> tuple[int, object]:
        """One number, or an array where layers differ."""
        return (U32, values[0]) if len(set(values)) == 1 else (ARRAY, Array(U32, values))

    keys = {
        "block_count": (U32, len(config.layers)),
        "context_length": (U32, text["max_position_embeddings"]),
        "embedding_length": (U32, config.hidden_size),
        "embedding_length_per_layer_input": (U32, config.per_layer_width),
        "feed_forward_length": each([layer.mlp_width for layer in config.layers]),
        "attention.head_count": (U32, config.heads),
        "attention.head_count_kv": each([layer.kv_heads for layer in config.layers]),
        "attention.key_length": (U32, full.head_dim),
        "attention.key_length_swa": (U32, sliding.head_dim),
        "attention.layer_norm_rms_epsilon": (F32, config.eps),
        "attention.shared_kv_layers": (U32, sum(layer.owner != i for i, layer in enumerate(config.layers))),
        "attention.sliding_window": (U32, config.window),
        "attention.sliding_window_pattern": (ARRAY, Array(BOOL, [not layer.full for layer in config.layers])),
        "final_logit_softcapping": (F32, config.softcap),
        "rope.freq_base": (F32, full.theta),
        "rope.freq_base_swa": (F32, sliding.theta),
    }
    if config.experts:
        keys["expert_count"] = (U32, config.experts)
        keys["expert_used_count"] = (U32, config.experts_per_token)
        keys["expert_feed_forward_length"] = (U32, config.expert_width)
    turning = int(full.rotary_share * full.head_dim / 2)
    tensors = [_tensor("rope_freqs.weight", np.where(np.arange(full.head_dim // 2) < turning, 1.0, 1e30))]
    for name, value in sorted(read_folder(folder).items()):
        tensors.append(_tensor(_name(name.removeprefix("model.").removeprefix("language_model.")), value))
    return Gguf(
        {"general.architecture": (STRING, "gemma4")} | {"gemma4." + key: value for key, value in keys.items()}, tensors
    )


def _name(name: str) -> str:
    if not name.startswith("layers."):
        return MODEL[name]
    _, layer, rest = name.split(".", 2)
    return f"blk.{layer}.{LAYER[rest]}"


def _tensor(name: str, value: np.ndarray) -> Tensor:
    """Matrices as BF16, which is what they are; vectors as F32."""
    matrix = value.ndim > 1
    data = f32_to_bf16(value) if matrix else value.astype(np.float32)
    return Tensor(name, list(value.shape[::-1]) or [1], TYPES["BF16" if matrix else "F32"][0], data.tobytes())
