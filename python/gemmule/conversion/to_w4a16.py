"""Checkpoints written as compressed-tensors folders: 4 bits, symmetric, groups of 32, activations untouched.

Source: vllm-project/compressed-tensors, pack-quantized.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

from .folder import Codes, Constant, Floats, Part, text_files, write_folder
from .opened import Opened, SourceTensor, Written
from .safetensors_file import StTensor

GROUP = 32  # weights that share a scale
_PER_WORD = 8  # codes in an int32
_PACKED = re.compile(r"layers\.\d+\.(self_attn\.|mlp\.|per_layer_input_gate|per_layer_projection).*\.weight")


def write_w4a16(source: Opened, place: Path, *, force: bool, progress: bool) -> Written:
    """Writes the matrices of all layers as groups of 32, the rest as bfloat16; arguments as `convert` has them.

    Raises:
        UnsupportedError: rows do not divide into groups, or there are experts.
    """
    parts: list[Part] = []
    for tensor in source.kept:
        if len(tensor.shape) == 2 and _PACKED.fullmatch(tensor.name):
            parts += _packed(tensor, source.full_name(tensor.module))
            continue
        source.refuse_experts(tensor, "w4a16")
        parts.append(Floats(tensor, source.full_name(tensor.name)))
    files = text_files(source, tied=source.config.tie_word_embeddings, quantization=_quantization(source))
    return Written(write_folder(source, place, files, parts, force=force, progress=progress), source.left_out)


def _packed(tensor: SourceTensor, module: str) -> list[Part]:
    rows, columns = tensor.shape
    tensor.require_whole("groups", GROUP, 'Convert to "mobile" or "bf16".')
    codes = StTensor(f"{module}.weight_packed", "I32", (rows, columns // _PER_WORD))
    scales = StTensor(f"{module}.weight_scale", "BF16", (rows, columns // GROUP))
    shape = StTensor(f"{module}.weight_shape", "I64", (2,))
    return [Codes(tensor, codes, scales, "g4", "recover"), Constant(shape, struct.pack("<2q", rows, columns))]


def _quantization(source: Opened) -> dict[str, Any]:
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": GROUP,
        "dynamic": False,
    }
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
        "format": "pack-quantized",
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "kv_cache_scheme": None,
        "ignore": [*source.unquantized_modules, "lm_head"],
    }
