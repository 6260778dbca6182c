"""How often each code stands in the weights of a checkpoint."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .contents import contents
from .shapes import TOWERS
from .tensors import WEIGHT, Piece, Tensor


def code_usage(path: str | os.PathLike[str], *, rows: int = 64) -> dict[str, NDArray[np.int64]]:
    """How often each code stands in the packed weights of a text model, and in GGUF's blocks.

    Args:
        path: as for `inspect`.
        rows: rows of each tensor that are looked at, spread over the whole.

    Returns:
        module -> counts (2**bits,), from the lowest code to the highest.
    """
    return {
        tensor.module: _count_codes(tensor, rows)
        for tensor in contents(path).all
        if tensor.role == WEIGHT and not tensor.is_float and tensor.kind != TOWERS
        if tensor.is_blocks or tensor.bits in (2, 4, 8)
    }


def _count_codes(tensor: Tensor, rows: int) -> NDArray[np.int64]:
    step = max(1, tensor.rows // rows)
    counts = np.zeros(2**tensor.bits, np.int64)
    for row in range(0, tensor.rows, step):
        for piece in tensor.pieces(row, 1):
            counts += _codes_in(tensor, piece)
    return counts


def _codes_in(tensor: Tensor, piece: Piece) -> NDArray[np.int64]:
    if tensor.is_blocks:
        return _core.count_codes(piece.values, tensor.dtype.lower())
    flip = 0x80 if tensor.dtype == "I8" else 0  # two's complement, so that the lowest comes first
    data = tensor.packed(piece).ravel() ^ flip
    counts = np.zeros(2**tensor.bits, np.int64)
    for shift in range(0, 8, tensor.bits):
        counts += np.bincount((data >> shift) & (2**tensor.bits - 1), minlength=len(counts))
    return counts
