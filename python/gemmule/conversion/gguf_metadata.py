"""The metadata of a Gemma 4 GGUF file, as llama.cpp reads it.

Source: ggml-org/llama.cpp, conversion/gemma.py (Gemma4Model), gguf-py/gguf/constants.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..checkpoints.checkpoint import SAMPLING_KEYS, GenerationConfig, read_json
from ..errors import FormatError, UnsupportedError
from .gguf_file import Kind, Metadata, Value
from .gguf_tokenizer import tokenizer_keys
from .text_config import FULL, SLIDING, TextConfig

# general.file_type: the type of most matrices, by llama.cpp's own numbers.
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}

_QUANTIZATION_VERSION = 2  # of ggml's block formats

_STILL = 1e30  # divides an angle that is not to turn


def metadata_of_folder(folder: Path, config: TextConfig, *, file_type: str, name: str, size_label: str) -> Metadata:
    """The metadata of a file that is made of a Hugging Face folder.

    Args:
        file_type: "F32", "F16", "BF16", "Q8_0" or "Q4_0", the type of most matrices.
        name: of the model, for people.
        size_label: see gguf_file.size_label.

    Raises:
        UnsupportedError: the format has no words for what the config asks for; or another tokenizer than Gemma's.
        FormatError: a file of the folder is broken.
    """
    about = {
        "general.architecture": "gemma4",
        "general.type": "model",
        "general.name": name,
        "general.size_label": size_label,
    }
    tokenizer = tokenizer_keys(folder, config.vocab_size)
    return (
        {key: Value(Kind.STRING, text) for key, text in about.items()}
        | _sampling_keys(folder)
        | _model_keys(config, folder)
        | tokenizer
        | _type_keys(file_type)
    )


def metadata_of_gguf(source: Mapping[str, Value], *, file_type: str) -> Metadata:
    """The metadata of a file that is made of another GGUF file: that file's own, as far as it still holds."""
    old = ("general.alignment", "general.file_type", "general.quantization_version", "split.", "quantize.")
    return {key: value for key, value in source.items() if not key.startswith(old)} | _type_keys(file_type)


def rope_divisors(config: TextConfig) -> list[float]:
    """The values of rope_freqs.weight (E / 2,): what the angles of full layers are divided by."""
    half = config.first(FULL).head_dim // 2
    turning = int(config.rope_full.partial_rotary_factor * half)
    return [1.0] * turning + [_STILL] * (half - turning)


def _type_keys(file_type: str) -> Metadata:
    return {
        "general.quantization_version": Value(Kind.U32, _QUANTIZATION_VERSION),
        "general.file_type": Value(Kind.U32, _FILE_TYPES[file_type]),
    }


def _sampling_keys(folder: Path) -> Metadata:
    """What generation_config.json says; a model that is greedy by default has temperature 0."""
    file = folder / "generation_config.json"
    said = {key for key, value in read_json(file).items() if value is not None}
    generation = GenerationConfig.read(folder)
    keys: Metadata = {}
    for name, key in SAMPLING_KEYS.items():
        if name == "suppress_tokens":
            if generation.suppressed_tokens:
                keys[key] = Value(Kind.I32, list(generation.suppressed_tokens))
        elif name in said or (name == "temperature" and generation.temperature == 0):
            value = getattr(generation, name)
            keys[key] = Value(Kind.I32, value) if name == "top_k" else _float32(file, name, value)
    return keys


def _float32(file: Path, key: str, number: float) -> Value:
    """As the format holds it. Raises FormatError for a number that becomes zero or infinite there."""
    with np.errstate(over="ignore"):
        held = np.float32(number)
    if not np.isfinite(held) or (held == 0) != (number == 0):
        expected = "a number that a float32 holds, as GGUF does"
        raise FormatError(
            f"{file}: {key} is {number}; expected {expected}",
            remedy='Change it, or convert to a Hugging Face folder: to="bf16", "w4a16" or "mobile".',
            file=str(file),
            tensor=key,
            expected=expected,
            found=str(number),
        )
    return Value(Kind.F32, number)


def _model_keys(config: TextConfig, folder: Path) -> Metadata:
    if (
        config.rope_sliding.partial_rotary_factor != 1
        or config.rope_sliding.factor != 1
        or config.rope_full.factor != 1
    ):
        raise UnsupportedError(
            f"{folder}: llama.cpp's format cannot say how this model's rotary positions are stretched",
            remedy='Convert it to a Hugging Face folder: to="bf16", "w4a16" or "mobile".',
            file=str(folder / "config.json"),
            tensor="rope_parameters",
        )
    layers, full, sliding = config.layers, config.first(FULL), config.first(SLIDING)
    integers: dict[str, int | list[int]] = {
        "block_count": len(layers),
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": _one_or_each([layer.intermediate_size for layer in layers]),
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": _one_or_each([layer.num_key_value_heads for layer in layers]),
        "attention.key_length": full.head_dim,
        "attention.value_length": full.head_dim,
        "attention.key_length_swa": sliding.head_dim,
        "attention.value_length_swa": sliding.head_dim,
        "attention.sliding_window": config.sliding_window,
        "attention.shared_kv_layers": config.num_kv_shared_layers,
        "embedding_length_per_layer_input": config.hidden_size_per_layer_input,
        "rope.dimension_count": full.head_dim,
        "rope.dimension_count_swa": sliding.head_dim,
    }
    if config.num_experts:
        integers |= {
            "expert_count": config.num_experts,
            "expert_used_count": config.top_k_experts,
            "expert_feed_forward_length": config.moe_intermediate_size,
        }
    floats = {
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_full.rope_theta,
        "rope.freq_base_swa": config.rope_sliding.rope_theta,
        "final_logit_softcapping": config.final_logit_softcapping,  # 0: none; llama.cpp takes 30 where nothing is said
    }
    pattern = [layer.type == SLIDING for layer in layers]
    return (
        {f"gemma4.{key}": Value(Kind.I32 if isinstance(n, list) else Kind.U32, n) for key, n in integers.items()}
        | {f"gemma4.{key}": Value(Kind.F32, number) for key, number in floats.items()}
        | {"gemma4.attention.sliding_window_pattern": Value(Kind.BOOL, pattern)}
    )


def _one_or_each(numbers: list[int]) -> int | list[int]:
    """One number that all layers have, or one for each."""
    return numbers[0] if len(set(numbers)) == 1 else numbers
