"""How likely a model holds each token of a text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import ArgumentError
from ..text.text_stream import TextStream
from ..text.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Score:
    """Of every token but the first, which nothing predicts: of a text that one is BOS.

    Attributes:
        ids: (N,) int32.
        pieces: N texts; joined they are the text of the ids, without control tokens. "" without a tokenizer.
        logprobs: (N,) float64, ln p of each after all before it, nats.
    """

    ids: NDArray[np.int32]
    pieces: list[str]
    logprobs: NDArray[np.float64]

    @property
    def sum(self) -> float:
        """ln p of all of them together, nats."""
        return float(self.logprobs.sum())


def scored(decoder: _core.Decoder, ids: NDArray[np.int32], tokenizer: Tokenizer | None) -> Score:
    """The score of ids (T,), by a new decoder. Raises ArgumentError where there is only one."""
    if len(ids) < 2:
        raise ArgumentError(
            "there is one token, and nothing before it to predict it from",
            remedy="Pass at least two; the first one is BOS, as a rule.",
            expected="at least 2 tokens",
            found="1",
        )
    text = TextStream(tokenizer)
    text.push(int(ids[0]))
    pieces = [text.push(token) for token in ids[1:].tolist()]
    pieces[-1] += text.finish()
    return Score(ids[1:].copy(), pieces, decoder.score(ids, 1))
