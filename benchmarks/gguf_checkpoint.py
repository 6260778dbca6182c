"""GGUF files of Gemma's sizes in Q4_0 with random blocks: names, shapes and types of the published files, not words.

As llama-quantize has it, matrices are Q4_0, embeddings Q6_K (Q8_0 where rows do not divide into blocks of 256), what is
small F32. Scales are chosen as in e2b_checkpoint.py, so that activations keep a root mean square near 1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import e2b_checkpoint
import kept_file
import random_blocks
import random_values
from e2b_checkpoint import FULL, GELU_PRODUCT_RMS, LAYER_SCALAR, POST_NORM, SLIDING
from gemmule.conversion.gguf_file import GgufLayout, GgufTensor, lay_out, size_label
from gemmule.conversion.gguf_metadata import metadata_of_folder, rope_divisors
from gemmule.conversion.text_config import LayerConfig, RopeParameters, TextConfig
from random_blocks import BLOCKS
from random_values import Fill

LAYOUT = 1  # goes up when the same parameters give other bytes than before
CHUNK_ELEMENTS = 1 << 22  # a multiple of every block
# Scores of two random heads then have a standard deviation of 1 (256 elements) or 1.4 (512). With 4, as in the mobile
# checkpoint, attention follows single keys, and the rounding of activations grows from layer to layer until the logits
# of two engines have nothing in common.
K_NORM = 1 / 16
FLOAT_BYTES = {"F32": 4, "BF16": 2}


# What all of Gemma 4 has.
_config = partial(
    TextConfig,
    rms_norm_eps=1e-6,
    final_logit_softcapping=30.0,
    tie_word_embeddings=True,
    rope_sliding=RopeParameters(1e4),
    rope_full=RopeParameters(1e6, partial_rotary_factor=0.25),
)


def of_mobile_shape(shape: e2b_checkpoint.Shape) -> TextConfig:
    """The same model as e2b_checkpoint.config describes, its head tied."""

    def layer(number: int, type: str) -> LayerConfig:
        widening = 2 if number >= shape.first_shared_layer else 1
        head = shape.global_head_dim if type == FULL else shape.head_dim
        return LayerConfig(type, head, shape.num_key_value_heads, widening * shape.intermediate_size, has_v_proj=True)

    return _config(
        vocab_size=shape.vocab_size,
        vocab_size_per_layer_input=shape.vocab_size,
        hidden_size=shape.hidden_size,
        hidden_size_per_layer_input=shape.hidden_size_per_layer_input,
        num_attention_heads=shape.num_attention_heads,
        num_kv_shared_layers=shape.num_kv_shared_layers,
        sliding_window=shape.sliding_window,
        max_position_embeddings=shape.max_position_embeddings,
        layers=tuple(layer(number, type) for number, type in enumerate(shape.layer_types)),
    )


def with_experts(
    *,
    vocab_size: int,
    hidden_size: int,
    periods: int,
    heads: int,
    kv_heads: tuple[int, int],
    head_dims: tuple[int, int],
    intermediate_size: int,
    sliding_window: int,
    max_position_embeddings: int,
    num_experts: int,
    top_k_experts: int,
    moe_intermediate_size: int,
) -> TextConfig:
    """26B-A4B's structure: `periods` times five sliding layers and a full one, whose values are its keys.

    Args:
        kv_heads, head_dims: of sliding and of full layers.
    """
    layers = [
        *[LayerConfig(SLIDING, head_dims[0], kv_heads[0], intermediate_size, has_v_proj=True)] * 5,
        LayerConfig(FULL, head_dims[1], kv_heads[1], intermediate_size, has_v_proj=False),
    ]
    return _config(
        vocab_size=vocab_size,
        vocab_size_per_layer_input=0,
        hidden_size=hidden_size,
        hidden_size_per_layer_input=0,
        num_attention_heads=heads,
        num_kv_shared_layers=0,
        sliding_window=sliding_window,
        max_position_embeddings=max_position_embeddings,
        layers=tuple(layers * periods),
        num_experts=num_experts,
        top_k_experts=top_k_experts,
        moe_intermediate_size=moe_intermediate_size,
    )


CONFIGS = {
    "e2b": of_mobile_shape(e2b_checkpoint.E2B),
    # 26B-A4B with 12 layers of its 30 and all experts: 6.1 GB, which fit beside llama.cpp's copy of them.
    "a4b": with_experts(
        vocab_size=262144,
        hidden_size=2816,
        periods=2,
        heads=16,
        kv_heads=(8, 2),
        head_dims=(256, 512),
        intermediate_size=2112,
        sliding_window=1024,
        max_position_embeddings=262144,
        num_experts=128,
        top_k_experts=8,
        moe_intermediate_size=704,
    ),
    "small": of_mobile_shape(e2b_checkpoint.SMALL),
    "small-a4b": with_experts(
        vocab_size=512,
        hidden_size=64,
        periods=1,
        heads=4,
        kv_heads=(2, 1),
        head_dims=(32, 64),
        intermediate_size=96,
        sliding_window=16,
        max_position_embeddings=1024,
        num_experts=8,
        top_k_experts=2,
        moe_intermediate_size=32,
    ),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file. bytes_per_token: what one token of decoding reads of it."""

    target: GgufTensor
    fill: Fill
    bytes_per_token: int

    def chunks(self, seed: int) -> Iterator[NDArray[Any]]:
        generator = np.random.default_rng([seed, *self.target.name.encode()])
        elements = math.prod(self.target.shape)
        for begin in range(0, elements, CHUNK_ELEMENTS):
            yield self.fill(generator, min(CHUNK_ELEMENTS, elements - begin))


def tensors(config: TextConfig) -> list[Tensor]:
    """All tensors of the file, in its order."""
    made = [*_global_tensors(config)]
    for number in range(len(config.layers)):
        made += _layer_tensors(config, number)
    return made


def prefill_multiply_adds(config: TextConfig, tokens: int) -> int:
    """Products with quantized weights in reading a prompt: the layers that share others' keys and values, and the head,
    compute its last token alone."""
    whole_prompt = tuple(f"blk.{number}." for number in range(len(config.layers) - config.num_kv_shared_layers))
    quantized = [tensor for tensor in tensors(config) if tensor.target.type in BLOCKS]
    return sum(
        round(math.prod(tensor.target.shape) * tensor.bytes_per_token / tensor.target.bytes)
        * (tokens if tensor.target.name.startswith(whole_prompt) else 1)
        for tensor in quantized
    )


def _tensor(name: str, type: str, shape: tuple[int, ...], fill: Fill, share: float = 1.0) -> Tensor:
    """share: of the tensor that a token reads."""
    elements, size = BLOCKS.get(type, (1, FLOAT_BYTES.get(type, 0)))
    total = math.prod(shape) // elements * size
    return Tensor(GgufTensor(name, type, shape, total), fill, round(share * total))


def _matrix(name: str, shape: tuple[int, ...], *, input_rms: float = 1.0, share: float = 1.0) -> Tensor:
    """A Q4_0 matrix (..., outputs, inputs) whose outputs have a root mean square of 1."""
    return _tensor(name, "Q4_0", shape, random_blocks.q4_0(1 / (math.sqrt(shape[-1]) * input_rms)), share)


def _embedding(name: str, rows: int, width: int, rms: float, share: float) -> Tensor:
    type = "Q6_K" if width % BLOCKS["Q6_K"][0] == 0 else "Q8_0"
    return _tensor(name, type, (rows, width), random_blocks.blocks(type, rms), share)


def _vector(name: str, width: int, value: float) -> Tensor:
    return _tensor(name, "F32", (width,), random_values.scales(value))


def _global_tensors(config: TextConfig) -> list[Tensor]:
    vocab, width = config.vocab_size, config.hidden_size
    divisors = np.array(rope_divisors(config), "<f4")
    made = [
        _tensor("rope_freqs.weight", "F32", divisors.shape, lambda _, count: divisors[:count]),
        # Rows are multiplied by sqrt(width) when they are read. As the head, a token needs all of them.
        _embedding("token_embd.weight", vocab, width, 1 / math.sqrt(width), 1 + 1 / vocab),
        _vector("output_norm.weight", width, 1.0),
    ]
    per_layer = config.hidden_size_per_layer_input
    if per_layer:
        all_layers = len(config.layers) * per_layer
        projection = (all_layers, width)
        made += [
            _embedding("per_layer_token_embd.weight", vocab, all_layers, 1 / math.sqrt(per_layer), 1 / vocab),
            _tensor("per_layer_model_proj.weight", "BF16", projection, random_values.bf16(-0.05, 0.05)),
            _vector("per_layer_proj_norm.weight", per_layer, 1.0),
        ]
    return made


def _layer_tensors(config: TextConfig, number: int) -> list[Tensor]:
    name, width = f"blk.{number}.", config.hidden_size
    inner, per_layer = config.layers[number].intermediate_size, config.hidden_size_per_layer_input
    made = [
        *_attention_tensors(config, number),
        _vector(f"{name}attn_norm.weight", width, 1.0),
        _vector(f"{name}post_attention_norm.weight", width, POST_NORM),
        _vector(f"{name}ffn_norm.weight", width, 1.0),
        _matrix(f"{name}ffn_gate.weight", (inner, width)),
        _matrix(f"{name}ffn_up.weight", (inner, width)),
        _matrix(f"{name}ffn_down.weight", (width, inner), input_rms=GELU_PRODUCT_RMS),
        _vector(f"{name}post_ffw_norm.weight", width, POST_NORM),
        _tensor(f"{name}layer_output_scale.weight", "F32", (1,), random_values.constant(LAYER_SCALAR)),
    ]
    if per_layer:
        made += [
            _matrix(f"{name}inp_gate.weight", (per_layer, width)),
            _matrix(f"{name}proj.weight", (width, per_layer), input_rms=GELU_PRODUCT_RMS),
            _vector(f"{name}post_norm.weight", width, POST_NORM),
        ]
    return made + (_expert_tensors(config, name) if config.num_experts else [])


def _attention_tensors(config: TextConfig, number: int) -> list[Tensor]:
    name, width, layer = f"blk.{number}.", config.hidden_size, config.layers[number]
    q_width, kv_width = config.num_attention_heads * layer.head_dim, layer.num_key_value_heads * layer.head_dim
    # Layers that share others' keys and values carry projections of their own, as published files do, for nothing.
    share = 0.0 if number >= len(config.layers) - config.num_kv_shared_layers else 1.0
    return [
        _matrix(f"{name}attn_q.weight", (q_width, width)),
        _matrix(f"{name}attn_k.weight", (kv_width, width), share=share),
        *([_matrix(f"{name}attn_v.weight", (kv_width, width), share=share)] if layer.has_v_proj else []),
        _matrix(f"{name}attn_output.weight", (width, q_width)),
        _vector(f"{name}attn_q_norm.weight", layer.head_dim, 1.0),
        _vector(f"{name}attn_k_norm.weight", layer.head_dim, K_NORM),
    ]


def _expert_tensors(config: TextConfig, name: str) -> list[Tensor]:
    width, experts, inner = config.hidden_size, config.num_experts, config.moe_intermediate_size
    used = config.top_k_experts / experts
    return [
        # Its input is divided by sqrt(width); with such scales its root mean square is 1 again.
        _tensor(f"{name}ffn_gate_inp.weight", "F32", (experts, width), _uniform(math.sqrt(3 / width))),
        _vector(f"{name}ffn_gate_inp.scale", width, math.sqrt(width)),
        _matrix(f"{name}ffn_gate_up_exps.weight", (experts, 2 * inner, width), share=used),
        _matrix(f"{name}ffn_down_exps.weight", (experts, width, inner), input_rms=GELU_PRODUCT_RMS, share=used),
        _vector(f"{name}ffn_down_exps.scale", experts, 1.0),
        _vector(f"{name}post_ffw_norm_1.weight", width, 1.0),
        _vector(f"{name}pre_ffw_norm_2.weight", width, 1.0),
        _vector(f"{name}post_ffw_norm_2.weight", width, 1.0),
    ]


def _uniform(limit: float) -> Fill:
    return lambda generator, count: generator.uniform(-limit, limit, count).astype("<f4")


@dataclass(frozen=True)
class GgufCheckpoint:
    """A file on disk; fields as of e2b_checkpoint.Checkpoint."""

    file: Path
    parameters: dict[str, Any]
    sha256: str
    file_bytes: int
    weight_bytes_per_token: int


def find_or_write(folder: Path, name: str, text_files: Path, seed: int) -> GgufCheckpoint:
    """The file of the shape `name` below `folder`, with the tokenizer of the folder `text_files`. It is written if it
    is not there."""
    config = CONFIGS[name]
    file = folder / f"{name}-q4_0-random.gguf"
    all_tensors = tensors(config)
    targets = [tensor.target for tensor in all_tensors]
    metadata = metadata_of_folder(text_files, config, file_type="Q4_0", name=name, size_label=size_label(targets))
    layout = lay_out(metadata, targets)
    header_sha256 = hashlib.sha256(layout.header).hexdigest()
    parameters = {"shape": name, **asdict(config), "header_sha256": header_sha256, "seed": seed, "layout": LAYOUT}
    parameters = json.loads(json.dumps(parameters))  # as they come back from the note
    note = kept_file.find_or_write(
        file, file.with_suffix(".json"), parameters, layout.size, lambda: _write(file, layout, all_tensors, seed)
    )
    return GgufCheckpoint(
        file=file,
        parameters=parameters,
        sha256=note["sha256"],
        file_bytes=note["file_bytes"],
        weight_bytes_per_token=sum(tensor.bytes_per_token for tensor in all_tensors),
    )


def _write(file: Path, layout: GgufLayout, all_tensors: list[Tensor], seed: int) -> str:
    """Writes the whole file. Returns its SHA-256."""
    digest = hashlib.sha256()
    with file.open("wb") as stream:

        def put(data: memoryview | bytes) -> None:
            digest.update(data)
            stream.write(data)

        put(layout.header)
        for tensor in all_tensors:
            put(b"\0" * (layout.offsets[tensor.target.name] - stream.tell()))
            for chunk in tensor.chunks(seed):
                put(np.ascontiguousarray(chunk).data)
        put(b"\0" * (layout.size - stream.tell()))
    return digest.hexdigest()
