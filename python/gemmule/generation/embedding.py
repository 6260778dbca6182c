"""Texts as vectors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .. import _core

POOLINGS = ("mean", "last")


def embedded(
    decoder: _core.Decoder, texts: Iterable[NDArray[np.int32]], pooling: str, width: int
) -> NDArray[np.float32]:
    """texts: n arrays (T,) of ids -> (n, width) float32. The decoder is a new one, or what it holds is not needed."""
    rows = []
    for ids in texts:
        decoder.rewind(0)
        wanted = 1 if pooling == "last" else len(ids)
        rows.append(decoder.hidden(ids, wanted).mean(axis=0, dtype=np.float64))
    return np.array(rows, np.float32).reshape(-1, width)
