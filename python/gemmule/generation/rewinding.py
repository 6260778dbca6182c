"""Going on with a cache: the next sequence often begins as the last one did."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .. import _core


def common_length(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """How many ids two sequences begin with alike."""
    shorter = min(len(a), len(b))
    different = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(different[0]) if different.size else shorter


def rewound(
    decoder: _core.Decoder, seen: NDArray[np.int32], ids: NDArray[np.int32], new_decoder: Callable[[], _core.Decoder]
) -> _core.Decoder:
    """A decoder that has seen a beginning of `ids`, not all of them: `decoder`, where its cache allows that, rewound to
    what both sequences begin with.

    Args:
        seen: (N,) what `decoder` has seen; ids behind its `length` do not count.
        ids: (T,), T >= 1.
    """
    common = common_length(seen[: decoder.length], ids[:-1])
    if common == decoder.length or decoder.rewind(common):
        return decoder
    return new_decoder()
