"""config.json and generation_config.json of a text model that was no Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import GenerationConfig, decimal
from ..errors import UnsupportedError
from .text_config import FULL, SLIDING, LayerConfig, RopeParameters, TextConfig


def config_json(config: TextConfig, dtype: str, file: Path) -> dict[str, Any]:
    """The content of a config.json for Gemma4ForCausalLM, in the spelling of published checkpoints.

    Args:
        dtype: of the weights, as torch names it, such as "bfloat16".
        file: the source, for messages.

    Raises:
        UnsupportedError: config.json has no words for the layers' differences.
    """
    layers, full, sliding = config.layers, config.first(FULL), config.first(SLIDING)
    first_shared = len(layers) - config.num_kv_shared_layers
    width = layers[0].intermediate_size
    k_eq_v = not full.has_v_proj
    doubled = layers[-1].intermediate_size == 2 * width and config.num_kv_shared_layers > 0
    said = tuple(
        LayerConfig(
            type=layer.type,
            head_dim=(full if layer.type == FULL else sliding).head_dim,
            num_key_value_heads=(full if layer.type == FULL and k_eq_v else sliding).num_key_value_heads,
            intermediate_size=width * (2 if doubled and i >= first_shared else 1),
            has_v_proj=layer.type == SLIDING or not k_eq_v,
        )
        for i, layer in enumerate(layers)
    )
    for i, (layer, means) in enumerate(zip(layers, said, strict=True)):
        if layer != means:
            raise UnsupportedError(
                f"{file}: layer {i} differs from others in a way that config.json has no words for",
                remedy="Convert it to a GGUF file.",
                file=str(file),
                expected=str(means),
                found=str(layer),
            )
    return {
        "architectures": ["Gemma4ForCausalLM"],
        "model_type": "gemma4_text",
        "dtype": dtype,
        "attention_bias": False,
        "attention_k_eq_v": k_eq_v,
        "enable_moe_block": config.num_experts > 0,
        "final_logit_softcapping": decimal(config.final_logit_softcapping) or None,
        "global_head_dim": full.head_dim,
        "head_dim": sliding.head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": config.hidden_size,
        "hidden_size_per_layer_input": config.hidden_size_per_layer_input,
        "intermediate_size": width,
        "layer_types": [layer.type for layer in layers],
        "max_position_embeddings": config.max_position_embeddings,
        "moe_intermediate_size": config.moe_intermediate_size or None,
        "num_attention_heads": config.num_attention_heads,
        "num_experts": config.num_experts or None,
        "num_global_key_value_heads": full.num_key_value_heads if k_eq_v else None,
        "num_hidden_layers": len(layers),
        "num_key_value_heads": sliding.num_key_value_heads,
        "num_kv_shared_layers": config.num_kv_shared_layers,
        "rms_norm_eps": decimal(config.rms_norm_eps),
        "rope_parameters": {FULL: _rope(config.rope_full), SLIDING: _rope(config.rope_sliding)},
        "sliding_window": config.sliding_window,
        "tie_word_embeddings": config.tie_word_embeddings,
        "top_k_experts": config.top_k_experts or None,
        "use_double_wide_mlp": doubled,
        "vocab_size": config.vocab_size,
        "vocab_size_per_layer_input": config.vocab_size_per_layer_input or config.vocab_size,
    }


def generation_config_json(generation: GenerationConfig) -> dict[str, Any]:
    """The content of a generation_config.json. What says the same as nothing is left out, but for top_k and top_p, for
    which transformers takes other values where nothing is said."""
    said: dict[str, Any] = {"eos_token_id": sorted(generation.end_tokens), "do_sample": generation.temperature > 0}
    if generation.temperature > 0:
        said |= {"temperature": generation.temperature, "top_k": generation.top_k, "top_p": generation.top_p}
    if generation.temperature > 0 and generation.min_p > 0:
        said["min_p"] = generation.min_p
    if generation.repetition_penalty != 1:
        said["repetition_penalty"] = generation.repetition_penalty
    if generation.suppressed_tokens:
        said["suppress_tokens"] = list(generation.suppressed_tokens)
    return said


def _rope(rope: RopeParameters) -> dict[str, Any]:
    theta = decimal(rope.rope_theta)
    if rope.partial_rotary_factor == 1 and rope.factor == 1:
        return {"rope_type": "default", "rope_theta": theta}
    said = {"rope_type": "proportional", "rope_theta": theta, "partial_rotary_factor": rope.partial_rotary_factor}
    return said | ({"factor": rope.factor} if rope.factor != 1 else {})
