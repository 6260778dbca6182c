"""A mobile checkpoint of the E2B size with random codes: the published file's names, shapes and types, not its words.

The speed of a model does not depend on its weights' values as long as activations stay in their usual range, so the
scales are chosen such that every matrix gets inputs of a root mean square near 1 and gives outputs of the same size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import kept_file
import random_values
import safetensors_stream
from random_values import Fill
from safetensors_stream import Entry

SLIDING, FULL = "sliding_attention", "full_attention"
PREFIX = "model.language_model."
NOTE = "benchmark.json"  # stands beside the checkpoint and says what is in it
LAYOUT = 1  # goes up when the same parameters give other bytes than before
CHUNK_ELEMENTS = 1 << 22

# Full scale of an activation's int8 codes, in units of its root mean square. Normal values beyond it are 1 in 15,000.
FULL_SCALE = 4.0
INT8_STEPS = 127.0
# The stream is x = layer_scalar * (x + three normed outputs): its variance settles at 3 w^2 s^2 / (1 - s^2), here 1.15
# with w = 0.3 and s = 0.9, and a token's own embedding fades, so that the model does not repeat its input for ever.
LAYER_SCALAR = 0.9
POST_NORM = 0.3
K_NORM = 0.25  # scores of two random heads then have a standard deviation of 4 (256 elements) or 5.7 (512)
GELU_PRODUCT_RMS = 0.65  # of gelu(a) * b, a and b normal


@dataclass(frozen=True)
class Shape:
    """The fields of text_config that give the model its size, in the config's own words."""

    vocab_size: int
    hidden_size: int
    hidden_size_per_layer_input: int
    intermediate_size: int
    num_hidden_layers: int
    num_kv_shared_layers: int
    layers_per_full_attention: int  # every so many layers, one sees the whole context
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    global_head_dim: int
    sliding_window: int
    max_position_embeddings: int

    @property
    def layer_types(self) -> list[str]:
        period = self.layers_per_full_attention
        return [FULL if i % period == period - 1 else SLIDING for i in range(self.num_hidden_layers)]

    @property
    def first_shared_layer(self) -> int:
        """Layers from here on read the keys and values of earlier ones."""
        return self.num_hidden_layers - self.num_kv_shared_layers


E2B = Shape(
    vocab_size=262144,
    hidden_size=1536,
    hidden_size_per_layer_input=256,
    intermediate_size=6144,
    num_hidden_layers=35,
    num_kv_shared_layers=20,
    layers_per_full_attention=5,
    num_attention_heads=8,
    num_key_value_heads=1,
    head_dim=256,
    global_head_dim=512,
    sliding_window=512,
    max_position_embeddings=131072,
)

# The same structure in about 200 kB, for a quick look at whether everything works.
SMALL = Shape(
    vocab_size=512,
    hidden_size=96,
    hidden_size_per_layer_input=32,
    intermediate_size=160,
    num_hidden_layers=6,
    num_kv_shared_layers=3,
    layers_per_full_attention=3,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=32,
    global_head_dim=64,
    sliding_window=16,
    max_position_embeddings=1024,
)

SHAPES = {"e2b": E2B, "small": SMALL}

# How much of a tensor one token of decoding reads: all of it, one row (embeddings), nothing (leftovers).
Reads = Literal["all", "row", "nothing"]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the checkpoint: where it stands, what is in it, what of it a token needs."""

    entry: Entry
    fill: Fill
    reads: Reads
    stream: str  # tensors of the same stream have the same random numbers

    @property
    def bytes_per_token(self) -> int:
        if self.reads == "nothing":
            return 0
        return self.entry.bytes if self.reads == "all" else self.entry.bytes // self.entry.shape[0]

    def chunks(self, seed: int) -> Iterator[NDArray[Any]]:
        generator = np.random.default_rng([seed, *self.stream.encode()])
        for begin in range(0, self.entry.elements, CHUNK_ELEMENTS):
            yield self.fill(generator, min(CHUNK_ELEMENTS, self.entry.elements - begin))


def tensors(shape: Shape) -> list[Tensor]:
    """All tensors of the checkpoint, in the file's order."""
    made = [*_global_tensors(shape)]
    for layer in range(shape.num_hidden_layers):
        made += _layer_tensors(shape, layer)
    by_name = {tensor.entry.name: tensor for tensor in made}
    return [by_name[entry.name] for entry in safetensors_stream.in_file_order(tensor.entry for tensor in made)]


def _tensor(name: str, dtype: str, shape: tuple[int, ...], fill: Fill, reads: Reads, stream: str = "") -> Tensor:
    return Tensor(Entry(name, dtype, shape), fill, reads, stream or name)


def _norm(name: str, width: int, value: float, reads: Reads = "all") -> Tensor:
    return _tensor(name, "BF16", (width,), random_values.bf16(0.9 * value, 1.1 * value), reads)


def _scalar(name: str, value: float, reads: Reads = "all") -> Tensor:
    return _tensor(name, "F32", (), random_values.constant(value), reads)


def _codes(name: str, rows: int, width: int, bits: int, reads: Reads, stream: str = "") -> Tensor:
    """Codes of a (rows, width) matrix; 2- and 4-bit ones are packed along the row."""
    dtype = "I8" if bits == 8 else "U8"
    return _tensor(name, dtype, (rows, width * bits // 8), random_values.codes(bits), reads, stream)


def _linear(
    name: str, rows: int, width: int, bits: int, *, input_rms: float = 1.0, reads: Reads = "all"
) -> list[Tensor]:
    """A quantized linear layer whose outputs have a root mean square of 1."""
    weight_scale = 1.0 / (math.sqrt(width) * input_rms * random_values.code_rms(bits))
    return [
        _codes(f"{name}.weight", rows, width, bits, reads),
        _tensor(f"{name}.weight_scale", "F32", (rows, 1), random_values.scales(weight_scale), reads),
        _scalar(f"{name}.input_activation_scale", input_rms * FULL_SCALE / INT8_STEPS, reads),
        _scalar(f"{name}.output_activation_scale", FULL_SCALE / INT8_STEPS, reads),
    ]


def _global_tensors(shape: Shape) -> list[Tensor]:
    vocab, width = shape.vocab_size, shape.hidden_size
    layers, per_layer = shape.num_hidden_layers, shape.hidden_size_per_layer_input
    # Rows are multiplied by sqrt(width) when they are read; both embeddings then have a root mean square of 1.
    embedding_scale = random_values.scales(1.0 / (math.sqrt(width) * random_values.code_rms(2)))
    per_layer_scale = random_values.scales(1.0 / (math.sqrt(per_layer) * random_values.code_rms(4)))
    tokens, tokens_per_layer = f"{PREFIX}embed_tokens.", f"{PREFIX}embed_tokens_per_layer."
    return [
        _codes(f"{tokens}embedding_quantized", vocab, width, 2, "row", "vocabulary codes"),
        _tensor(f"{tokens}embedding_scale", "F32", (vocab, 1), embedding_scale, "row", "vocabulary scales"),
        _codes(f"{tokens_per_layer}embedding_quantized", vocab, layers * per_layer, 4, "row"),
        _tensor(f"{tokens_per_layer}embedding_scale", "F32", (vocab, layers), per_layer_scale, "row"),
        _tensor(
            f"{PREFIX}per_layer_model_projection.weight",
            "BF16",
            (layers * per_layer, width),
            random_values.bf16(-0.05, 0.05),
            "all",
        ),
        _norm(f"{PREFIX}per_layer_projection_norm.weight", per_layer, 1.0),
        _norm(f"{PREFIX}norm.weight", width, 1.0),
        # An exact copy of the input embedding; a scale of 0 means that activations are not rounded.
        _codes("lm_head.weight", vocab, width, 2, "all", "vocabulary codes"),
        _tensor("lm_head.weight_scale", "F32", (vocab, 1), embedding_scale, "all", "vocabulary scales"),
        _scalar("lm_head.input_activation_scale", 0.0),
        _scalar("lm_head.output_activation_scale", 0.0),
    ]


def _layer_tensors(shape: Shape, layer: int) -> list[Tensor]:
    name = f"{PREFIX}layers.{layer}."
    width, per_layer = shape.hidden_size, shape.hidden_size_per_layer_input
    return [
        *_attention_tensors(shape, layer),
        *_mlp_tensors(shape, layer),
        *_linear(f"{name}per_layer_input_gate", per_layer, width, 8),
        *_linear(f"{name}per_layer_projection", width, per_layer, 8, input_rms=GELU_PRODUCT_RMS),
        _norm(f"{name}input_layernorm.weight", width, 1.0),
        _norm(f"{name}post_attention_layernorm.weight", width, POST_NORM),
        _norm(f"{name}pre_feedforward_layernorm.weight", width, 1.0),
        _norm(f"{name}post_feedforward_layernorm.weight", width, POST_NORM),
        _norm(f"{name}post_per_layer_input_norm.weight", width, POST_NORM),
        _tensor(f"{name}layer_scalar", "BF16", (1,), random_values.bf16(LAYER_SCALAR, LAYER_SCALAR), "all"),
    ]


def _attention_tensors(shape: Shape, layer: int) -> list[Tensor]:
    name = f"{PREFIX}layers.{layer}.self_attn."
    width = shape.hidden_size
    full = shape.layer_types[layer] == FULL
    head = shape.global_head_dim if full else shape.head_dim
    q_width, kv_width = shape.num_attention_heads * head, shape.num_key_value_heads * head
    # Layers that share others' keys and values carry projections of their own, as published files do, for nothing.
    kv_reads: Reads = "all" if layer < shape.first_shared_layer else "nothing"
    # Sliding layers keep 8 bits of a key or value; full layers 4 bits of the same range, in steps 16 times as large.
    step = FULL_SCALE / INT8_STEPS * (16 if full else 1)
    return [
        *_linear(f"{name}q_proj", q_width, width, 4),
        *_linear(f"{name}k_proj", kv_width, width, 4, reads=kv_reads),
        *_linear(f"{name}v_proj", kv_width, width, 4, reads=kv_reads),
        *_linear(f"{name}o_proj", width, q_width, 4),
        _norm(f"{name}q_norm.weight", head, 1.0),
        _norm(f"{name}k_norm.weight", head, K_NORM, kv_reads),
        _scalar(f"{name}k_cache_scale", K_NORM * step, kv_reads),
        _scalar(f"{name}v_cache_scale", step, kv_reads),
    ]


def _mlp_tensors(shape: Shape, layer: int) -> list[Tensor]:
    name = f"{PREFIX}layers.{layer}.mlp."
    width = shape.hidden_size
    shared = layer >= shape.first_shared_layer  # twice as wide, and 2 bits
    inner, bits = (2 * shape.intermediate_size, 2) if shared else (shape.intermediate_size, 4)
    return [
        *_linear(f"{name}gate_proj", inner, width, bits),
        *_linear(f"{name}up_proj", inner, width, bits),
        *_linear(f"{name}down_proj", width, inner, bits, input_rms=GELU_PRODUCT_RMS),
    ]


def config(shape: Shape) -> dict[str, Any]:
    """config.json, as the published mobile checkpoints have it; without towers."""
    text = asdict(shape)
    del text["layers_per_full_attention"]
    own_kv = "|".join(str(layer) for layer in range(shape.first_shared_layer))
    layers = r"language_model\.layers"
    bits = {
        r"^lm_head$": 2,
        r"language_model\.embed_tokens$": 2,
        r"language_model\.embed_tokens_per_layer$": 4,
        rf"{layers}\.({own_kv})\.mlp\.": 4,
        rf"{layers}\.\d+\.mlp\.": 2,
        rf"{layers}\.\d+\.self_attn\.": 4,
        rf"{layers}\.\d+\.per_layer_input_gate$": 8,
        rf"{layers}\.\d+\.per_layer_projection$": 8,
    }
    return {
        "model_type": "gemma4",
        "tie_word_embeddings": False,
        "text_config": {
            **text,
            "model_type": "gemma4_text",
            "vocab_size_per_layer_input": shape.vocab_size,
            "layer_types": shape.layer_types,
            "attention_bias": False,
            "attention_k_eq_v": False,
            "enable_moe_block": False,
            "final_logit_softcapping": 30.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "num_global_key_value_heads": None,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                FULL: {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
                SLIDING: {"rope_type": "default", "rope_theta": 1e4},
            },
            "tie_word_embeddings": False,
            "use_bidirectional_attention": None,
            "use_double_wide_mlp": True,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
        "quantization_config": {
            "quant_method": "gemma",
            "num_bits": 4,
            "quantize_embeddings": True,
            "module_quant_configs": {pattern: {"num_bits": width} for pattern, width in bits.items()},
            "modules_to_not_convert": ["per_layer_model_projection"],
        },
        # Places of images and sounds are no tokens of this vocabulary.
        "image_token_id": None,
        "audio_token_id": None,
        "video_token_id": None,
    }


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        parameters: what it was made from; equal parameters give equal bytes.
        sha256: of model.safetensors.
        file_bytes: size of model.safetensors.
        weight_bytes_per_token: what one token of decoding reads of it.
    """

    folder: Path
    parameters: dict[str, Any]
    sha256: str
    file_bytes: int
    weight_bytes_per_token: int


def find_or_write(folder: Path, name: str, seed: int) -> Checkpoint:
    """The checkpoint of the shape `name` in a folder of that name below `folder`. It is written if it is not there."""
    shape = SHAPES[name]
    target = folder / f"{name}-mobile-random"
    all_tensors = tensors(shape)
    parameters = {"shape": name, **asdict(shape), "seed": seed, "layout": LAYOUT}
    weights = target / "model.safetensors"
    entries = [tensor.entry for tensor in all_tensors]

    def write() -> str:
        (target / "config.json").write_text(json.dumps(config(shape), indent=1))
        chunks = (chunk for tensor in all_tensors for chunk in tensor.chunks(seed))
        return safetensors_stream.write(weights, entries, chunks)

    size = sum(entry.bytes for entry in entries)
    note = kept_file.find_or_write(weights, target / NOTE, parameters, size, write)
    return Checkpoint(
        folder=target,
        parameters=parameters,
        sha256=note["sha256"],
        file_bytes=note["file_bytes"],
        weight_bytes_per_token=sum(tensor.bytes_per_token for tensor in all_tensors),
    )
