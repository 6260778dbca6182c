"""Checkpoints written in the mobile format (wNa8o8): 2-, 4- and 8-bit rows, static scales of activations and caches.

Source: transformers, GemmaQuantizationConfig; the published google/gemma-4-E2B-it-qat-mobile-transformers.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedError
from .activation_scales import activation_names
from .folder import Codes, Constant, Floats, Part, text_files, write_folder
from .mobile_bits import DEFAULT_BITS, BitRule, bits_of, overriding_rules, published_rules
from .opened import Opened, SourceTensor, Written
from .safetensors_file import StTensor
from .scale_file import Scales, read_scales, refused

_HEAD, _EMBEDDINGS, _PER_LAYER_EMBEDDINGS = "lm_head", "embed_tokens", "embed_tokens_per_layer"
_DTYPES = {2: "U8", 4: "U8", 8: "I8"}


@dataclass(frozen=True)
class _Matrix:
    """A matrix or table to be packed. module: in the target, without the prefix; groups: scales of a row."""

    tensor: SourceTensor
    module: str
    groups: int

    @property
    def is_table(self) -> bool:
        return self.module in (_EMBEDDINGS, _PER_LAYER_EMBEDDINGS)

    @property
    def scale_name(self) -> str:
        return f"{self.module}.{'embedding_scale' if self.is_table else 'weight_scale'}"

    @property
    def code_name(self) -> str:
        return f"{self.module}.{'embedding_quantized' if self.is_table else 'weight'}"


def write_mobile(
    source: Opened,
    place: Path,
    *,
    rule: str,
    overrides: Mapping[str, int],
    activations: Mapping[str, float],
    weight_scales: str | os.PathLike[str] | None,
    ple_scale: str,
    force: bool,
    progress: bool,
) -> Written:
    """Writes a folder. What layers that share keys and values do not use is left out.

    Args:
        rule, overrides, weight_scales, ple_scale, force, progress: as `convert` has them; rule is its `scales`.
        activations: scales of activations and caches by name; where one is missing, it is the source's own.

    Raises:
        ArgumentError: an override is wrong.
        FormatError: the weight scales do not belong to this checkpoint.
        UnsupportedError: rows do not divide into whole bytes, or there are experts.
    """
    kept = [tensor for tensor in source.kept if not source.is_unused(tensor)]
    groups = {_PER_LAYER_EMBEDDINGS: len(source.shape.layers) if ple_scale == "layer" else 1}
    matrices = {t.name: _Matrix(t, t.module, groups.get(t.module, 1)) for t in kept if _is_packed(t)}
    named = {tensor.name: tensor for tensor in kept}
    matrices[f"{_HEAD}.weight"] = _Matrix(named.get(f"{_HEAD}.weight", named[f"{_EMBEDDINGS}.weight"]), _HEAD, 1)
    modules = [source.full_name(matrix.module) for matrix in matrices.values()]
    rules = overriding_rules(overrides, modules) + published_rules(source.config, source.prefix)
    given = _read_given(weight_scales, source, list(matrices.values())) if weight_scales is not None else {}
    scales = _own_scales(source) | dict(activations)

    parts: list[Part] = []
    for tensor in kept:
        source.refuse_experts(tensor, "mobile")
        if tensor.name not in matrices:
            parts.append(Floats(tensor, source.full_name(tensor.name)))
    for matrix in matrices.values():
        bits = bits_of(source.full_name(matrix.module), rules)
        parts.append(_codes(source, matrix, bits, rule, given))
        if not matrix.is_table:
            parts += [_scalar(source, name, scales.get(name, 0.0)) for name in activation_names(matrix.module)]
    for i, layer in enumerate(source.shape.layers):
        for which in ("k_cache_scale", "v_cache_scale"):
            own, owner = (f"layers.{at}.self_attn.{which}" for at in (i, layer.owner))
            parts.append(_scalar(source, own, scales.get(owner, 0.0)))

    left_out = tuple(tensor.name for tensor in source.kept if source.is_unused(tensor))
    files = text_files(source, tied=False, quantization=_quantization(rules, source))
    reports = write_folder(source, place, files, parts, force=force, progress=progress)
    return Written(reports, left_out, _notes(scales))


def _is_packed(tensor: SourceTensor) -> bool:
    return len(tensor.shape) == 2 and not tensor.is_projection


def _own_scales(source: Opened) -> dict[str, float]:
    """Scales of activations and caches that the source has, by name."""
    scales: dict[str, float] = {}
    for tensor in source.tensors:
        if tensor.is_cache_scale:
            scales[tensor.name] = float(source.core.rows(tensor.number, 0, 1)[0, 0])
        else:
            stored = zip(activation_names(tensor.module), (tensor.input_scale, tensor.output_scale), strict=True)
            scales |= {name: scale for name, scale in stored if scale}
    return scales


def _codes(source: Opened, matrix: _Matrix, bits: int, rule: str, given: Scales) -> Codes:
    rows, columns = matrix.tensor.shape
    groups = matrix.groups
    per_byte = 8 // bits
    if columns % (groups * per_byte):
        raise UnsupportedError(
            f"{matrix.tensor.name}: groups of {columns / groups:g} elements of {bits} bits do not fill whole bytes",
            remedy=f'Give it more bits: overrides={{"{matrix.module}$": 8}}.',
            tensor=matrix.tensor.name,
            expected=f"a multiple of {per_byte}",
            found=f"{columns / groups:g}",
        )
    known = given.get(matrix.scale_name)
    return Codes(
        matrix.tensor,
        StTensor(source.full_name(matrix.code_name), _DTYPES[bits], (rows, columns // per_byte)),
        StTensor(source.full_name(matrix.scale_name), "F32", (rows, groups)),
        f"c{bits}",
        rule,
        None if known is None else np.ascontiguousarray(np.repeat(known, groups // known.shape[1], axis=1)),
    )


def _scalar(source: Opened, name: str, value: float) -> Constant:
    return Constant(StTensor(source.full_name(name), "F32", ()), struct.pack("<f", value))


def _read_given(
    path: str | os.PathLike[str], source: Opened, matrices: list[_Matrix]
) -> dict[str, NDArray[np.float32]]:
    """Scales of all matrices, (rows, groups), by name; the head's are the embeddings', where it has none."""
    shapes = {m.scale_name: sorted({(m.tensor.shape[0], groups) for groups in (1, m.groups)}) for m in matrices}
    unused = [t for t in source.tensors if source.is_unused(t) and _is_packed(t)]
    others = shapes | {f"{t.module}.weight_scale": [(t.shape[0], 1)] for t in unused}
    head = f"{_HEAD}.weight_scale"
    wanted = {name: each for name, each in shapes.items() if name != head or source.has_head}
    scales = read_scales(path, wanted, others)
    scales.setdefault(head, scales[f"{_EMBEDDINGS}.embedding_scale"])
    for name in shapes:
        if not scales[name].all():
            raise refused(path, name, "scales over 0", "a scale of 0")
    return scales


def _quantization(rules: list[BitRule], source: Opened) -> dict[str, Any]:
    return {
        "quant_method": "gemma",
        "num_bits": DEFAULT_BITS,
        "quantize_embeddings": True,
        "module_quant_configs": {rule.pattern: {"num_bits": rule.bits} for rule in rules},
        "modules_to_not_convert": source.unquantized_modules,
    }


def _notes(scales: Mapping[str, float]) -> tuple[str, ...]:
    notes = []
    if not any(name.endswith("_activation_scale") and value for name, value in scales.items()):
        notes.append(
            "no scales of activations: they are not rounded, and products take float32 activations, which is slower;"
            " pass calibrate= or activation_scales="
        )
    if not any(name.endswith("_cache_scale") and value for name, value in scales.items()):
        notes.append("no scales of the key/value cache: it stays float; pass calibrate= or activation_scales=")
    return tuple(notes)
