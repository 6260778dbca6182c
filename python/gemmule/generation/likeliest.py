"""The likeliest next tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..text.tokenizer import Tokenizer

_BLOCK = 64  # logits


class TokenLogprob(NamedTuple):
    """A token that could have come: its id, its text, and ln p in nats under the model's own distribution.

    A control token's text is its name, that of a byte token is such as "<0x0A>"; "" without a tokenizer.
    """

    token: int
    text: str
    logprob: float


def likeliest(logits: NDArray[np.float32], count: int, tokenizer: Tokenizer | None) -> list[TokenLogprob]:
    """The `count` tokens with the largest logits (V,), the largest first, the lowest id first of equals."""
    ids = np.flatnonzero(logits >= _bound(logits, count))
    ids = ids[np.lexsort((ids, -logits[ids]))][:count]
    first = _core.log_probability(logits, int(ids[0]))
    behind = logits[ids].astype(np.float64) - float(logits[ids[0]])
    return [
        TokenLogprob(id, tokenizer.name(id) if tokenizer else "", first + less)
        for id, less in zip(ids.tolist(), behind.tolist(), strict=True)
    ]


def _bound(logits: NDArray[np.float32], count: int) -> np.float32:
    """A number that at least `count` logits reach, if there are so many, and not many more: the count-th largest of the
    largest ones of blocks."""
    blocks = logits[: len(logits) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).max(axis=1)
    return np.float32(-np.inf) if len(blocks) < count else np.partition(blocks, -count)[-count]
