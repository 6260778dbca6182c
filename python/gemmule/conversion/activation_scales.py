"""Scales of activations and caches, read from a file beside a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..checkpoints.shapes import ATTENTION, MLP, PER_LAYER_INPUTS, TextShape
from .scale_file import read_scales

_QUANTIZED = (ATTENTION, MLP, PER_LAYER_INPUTS)  # kinds of a layer's matrices that have scales


def read_activation_scales(path: str | os.PathLike[str], shape: TextShape) -> dict[str, float]:
    """The scales of a file, named as `calibrate` names them; 0 means that nothing is rounded.

    The file must have all that the model uses, and may also have those of the head, and those of keys and values that
    a layer does not use because it shares another's.

    Raises:
        FormatError: a scale is missing, does not belong to the model, is no single number, not finite or negative.
        MissingFileError, ResourceError: the file is not there, or cannot be read.
    """
    one = ((), (1,))
    wanted, unused = (dict.fromkeys(names, one) for names in (scale_names(shape), _unused_names(shape)))
    return {name: float(values.reshape(())) for name, values in read_scales(path, wanted, unused).items()}


def scale_names(shape: TextShape) -> set[str]:
    """Of every scale of a model's activations and caches, without the prefix of a checkpoint's files."""
    modules = (name for name in shape.matrices() if name.startswith("layers.") and shape.kind(name) in _QUANTIZED)
    caches = {f"layers.{i}.self_attn.{which}_cache_scale" for i in range(len(shape.layers)) for which in "kv"}
    return _of_modules(modules) | caches


def activation_names(module: str) -> tuple[str, str]:
    """Of the scales of what a module reads, and of what it gives."""
    return f"{module}.input_activation_scale", f"{module}.output_activation_scale"


def _unused_names(shape: TextShape) -> set[str]:
    sharing = [i for i, layer in enumerate(shape.layers) if layer.owner != i]
    return _of_modules(["lm_head"] + [f"layers.{i}.self_attn.{which}_proj" for i in sharing for which in "kv"])


def _of_modules(modules: Iterable[str]) -> set[str]:
    return {name for module in modules for name in activation_names(module)}
