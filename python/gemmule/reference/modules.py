"""Weights as modules: a linear layer and an embedding, plain or packed. A packed one is known by its scale tensor."""

# mypy: disable-error-code="no-any-return"

from typing import Any

import numpy as np

from .operations import decode, round_to_grid, unpack_codes
from .safetensors import Array, Tensors


class Linear:
    """y = x W^T; where the checkpoint has scales, x and y are rounded to their static 8-bit grids.

    Attributes:
        weight: (rows, K), codes already multiplied by their row's scale.
        input_scale, output_scale: 0 means no rounding.
    """

    def __init__(self, tensors: Tensors, name: str, columns: int, dtype: type[np.floating[Any]]) -> None:
        weight: Array = tensors[name + ".weight"]
        scale = tensors.get(name + ".weight_scale")
        if scale is not None:
            weight = decode(unpack_codes(weight, 8 * weight.shape[1] // columns), scale, dtype)
        self.weight = weight.astype(dtype)
        self.input_scale = float(tensors.get(name + ".input_activation_scale", 0.0))
        self.output_scale = float(tensors.get(name + ".output_activation_scale", 0.0))

    def __call__(self, x: Array) -> Array:
        """x (..., K) -> (..., rows)."""
        return round_to_grid(self.before_output_rounding(x), self.output_scale)

    def before_output_rounding(self, x: Array) -> Array:
        """x (..., K) -> (..., rows)."""
        return round_to_grid(x, self.input_scale) @ self.weight.T


class Embedding:
    """Rows of a table.

    Attributes:
        rows: (V, width), decoded, before the multiplier.
        multiplier: what a looked-up row is multiplied by.
    """

    def __init__(
        self, tensors: Tensors, name: str, width: int, multiplier: float, dtype: type[np.floating[Any]]
    ) -> None:
        if name + ".weight" in tensors:
            rows: Array = tensors[name + ".weight"]
        else:
            packed = tensors[name + ".embedding_quantized"]
            rows = decode(unpack_codes(packed, 8 * packed.shape[1] // width), tensors[name + ".embedding_scale"], dtype)
        self.rows = rows.astype(dtype)
        self.multiplier = dtype(multiplier)

    def __call__(self, ids: Array) -> Array:
        """ids (T,) -> (T, width)."""
        return self.rows[ids] * self.multiplier
