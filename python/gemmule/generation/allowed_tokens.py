"""Which tokens may come next, and how their logits are changed before one is chosen."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from ..arguments import is_masked, shown
from ..errors import ArgumentError
from ..text.answer import AnswerStream
from .sampling import LogitsProcessor, Sampling


class AllowedTokens:
    """What the sampler of one sequence may choose from.

    A structure holds the answer alone: thoughts and calls are free, but do not end it, and they stand before it.

    Attributes:
        complete: whether the answer fits its structure, and nothing may follow.
    """

    def __init__(self, sampling: Sampling, answer: AnswerStream, openings: Collection[int] = ()) -> None:
        """openings: ids that open a thought or a call, where a structure lets these stand before the answer."""
        self._sampling = sampling
        self._answer = answer
        self._openings = list(openings)
        self._constraint = sampling.grammar.begin(sampling.end_tokens) if sampling.grammar else None
        self._begun = False  # whether the answer has a token
        self.complete = False

    def of(self, logits: NDArray[np.float32], ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Logits (V,) behind ids (N,), as the processors, the biases and the structure leave them. They are not changed
        where they are."""
        sampling, answer = self._sampling, self._answer
        if answer.forced is not None:
            return _only([answer.forced], logits)
        if sampling.logits_processors or len(sampling.biases):
            logits = logits.copy()
            for place, processor in enumerate(sampling.logits_processors):
                logits = _processed(f"logits_processors[{place}]", processor, ids, logits)
            logits[sampling.biased_ids] += sampling.biases
        if self._constraint is None:
            return logits
        if not answer.is_open:
            return _without(sampling.end_tokens, logits)
        if self._begun or not self._openings:
            return self._constraint.masked(logits)
        if answer.has_calls:  # their results come before an answer
            return _only([*self._openings, *sampling.end_tokens], logits)
        return np.maximum(self._constraint.masked(logits), _only(self._openings, logits))

    def accept(self, token: int) -> None:
        """Goes on with a token that was chosen, before the answer's stream takes it."""
        if self._constraint is None or not self._answer.is_open:
            return
        if token in self._sampling.end_tokens or (not self._begun and token in self._openings):
            return
        self._begun = True
        self._constraint.accept(token)
        self.complete = self._constraint.complete


def _only(ids: Collection[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """logits (V,), with -infinity for all tokens but these."""
    only = np.full_like(logits, -np.inf)
    kept = [id for id in ids if id < len(logits)]
    only[kept] = logits[kept]
    return only


def _without(ids: Collection[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """logits (V,), with -infinity for these tokens."""
    rest = logits.copy()
    rest[[id for id in ids if id < len(logits)]] = -np.inf
    return rest


def _processed(
    name: str, processor: LogitsProcessor, ids: NDArray[np.int32], logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What `processor` makes of logits (V,), checked. What it raises comes as it is."""
    seen, offered = ids.view(), logits.view()  # it may freeze what it is given, or give it another shape
    seen.flags.writeable = False
    returned = processor(seen, offered)
    result = logits if returned is None else returned
    is_array = isinstance(result, np.ndarray) and not is_masked(result)
    if not is_array or result.dtype != np.float32 or result.shape != logits.shape:
        found = f"{result.dtype}, {result.shape}" if is_array else shown(result)
        wanted = f"an array of float32 with shape {logits.shape}, or None"
        raise ArgumentError(f"{name} returned {found}; expected {wanted}", expected=wanted, found=found)
    largest = float(result.max())
    if not largest < np.inf:  # NaN is not, either
        raise ArgumentError(f"{name} made a logit {largest}", remedy="To forbid a token, use -inf.", found=str(largest))
    return result if result is logits else result.copy()  # the processor may keep what it returned
