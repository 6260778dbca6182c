"""Scales of activations and caches, read from a file beside a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..shapes import TextShape
from .scale_file import check_names, read_scales, refused

_ATTENTION = ("self_attn.q_proj", "self_attn.o_proj")
_KEYS_VALUES = ("self_attn.k_proj", "self_attn.v_proj")
_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_PER_LAYER_INPUT = ("per_layer_input_gate", "per_layer_projection")


def read_activation_scales(path: str | os.PathLike[str], shape: TextShape) -> dict[str, float]:
    """The scales of a file, named as `calibrate` names them; 0 means that nothing is rounded.

    The file must have all that the model uses, and may also have those of the head, and those of keys and values that
    a layer does not use because it shares another's.

    Raises:
        FormatError: a scale is missing, does not belong to the model, is no single number, not finite or negative.
        MissingFileError, ResourceError: the file is not there, or cannot be read.
    """
    scales = read_scales(path)
    check_names(path, scales, scale_names(shape), _unused_names(shape))
    for name, values in scales.items():
        if values.shape not in ((), (1,)):
            raise refused(path, name, "shape () or (1,)", str(values.shape))
    return {name: float(values.reshape(())) for name, values in scales.items()}


def scale_names(shape: TextShape) -> set[str]:
    """Of every scale of a model's activations and caches, without the prefix of a checkpoint's files."""
    names = set()
    for i, layer in enumerate(shape.layers):
        modules = _ATTENTION + _MLP + (_PER_LAYER_INPUT if shape.per_layer_width else ())
        if layer.owner == i:
            modules += _KEYS_VALUES if layer.has_v_proj else _KEYS_VALUES[:1]
        names |= _of_modules(f"layers.{i}.{module}" for module in modules)
        names |= {f"layers.{i}.self_attn.{which}_cache_scale" for which in "kv"}
    return names


def _unused_names(shape: TextShape) -> set[str]:
    sharing = [i for i, layer in enumerate(shape.layers) if layer.owner != i]
    return _of_modules(["lm_head"] + [f"layers.{i}.{module}" for i in sharing for module in _KEYS_VALUES])


def _of_modules(modules: Iterable[str]) -> set[str]:
    return {f"{module}.{which}_activation_scale" for module in modules for which in ("input", "output")}
