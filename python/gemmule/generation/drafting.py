"""Drafting: the next tokens are guessed, and one pass of the model checks them all.

The text is the one that plain decoding gives, sampled or not: each token is chosen from the model's own logits by the
same sampler, in the same order; a draft only says which logits to compute beforehand. Whatever the drafts are, a token
then has exactly the model's distribution: a draft d is kept with its probability p(d), else another token comes with
p restricted to the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .draft_length import DraftLength

if TYPE_CHECKING:
    from .generate import Generation, Piece, Usage

# The tokens that may follow, at most so many, behind all of a sequence's ids, of which its decoder has read all but
# the last.
Proposer = Callable[["Generation", int], "list[int]"]


class ModelDrafts:
    """Drafts of a checkpoint's own drafter."""

    def __init__(self, model: _core.DraftModel) -> None:
        self._drafter = _core.Drafter(model)

    def __call__(self, run: Generation, count: int) -> list[int]:
        return self._drafter.draft(run.decoder, int(run.ids[-1]), count)


def prompt_lookup(run: Generation, count: int) -> list[int]:
    """What followed the last tokens where they stood before, in the prompt or the answer: for text that repeats itself.

    Three tokens that agree count before two; of several places the last one.
    """
    ids = run.ids
    following = ids[:0]
    ends = np.flatnonzero(ids[:-1] == ids[-1])  # places of the last token; then of the last two, of the last three
    for length in (2, 3):
        if len(ids) <= length:
            break
        ends = ends[ends >= length - 1]
        ends = ends[ids[ends - (length - 1)] == ids[-length]]
        if ends.size:
            following = ids[ends[-1] + 1 :][:count]
    return [int(id) for id in following]


class Drafting:
    """The drafts of one sequence.

    Attributes:
        drafted_tokens: tokens that were drafted and read.
        accepted_tokens: of those, the ones that became the text.
        length: how many are drafted.
    """

    def __init__(self, propose: Proposer) -> None:
        self._propose = propose
        self.length = DraftLength()
        self.drafted_tokens = self.accepted_tokens = 0
        self._choosing_seconds = 0.0  # in the sampler, of all tokens

    def advance(self, run: Generation) -> list[Piece]:
        """One pass of the model: a token at least. The decoder has then read all of `run.ids` but the last."""
        begin = time.perf_counter()
        count = min(self.length.next(), run.room - 1)  # the last logits give a token too
        drafts = self._propose(run, count) if count > 0 else []
        drafted = time.perf_counter()
        tokens = np.concatenate([run.unread, np.array(drafts, np.int32)]) if drafts else run.unread
        logits = run.decoder.logits(tokens)
        read = time.perf_counter()
        try:
            new = self._accepted(run, logits, drafts)
        finally:  # whatever ended that: no wrong draft stays
            if drafts:
                run.decoder.rewind(len(run.ids) - 1)
        right = sum(piece.token == draft for piece, draft in zip(new, drafts, strict=False)) if drafts else 0
        self.drafted_tokens += len(drafts)
        self.accepted_tokens += right
        self.length.observe(len(drafts), right, drafted - begin, read - drafted)
        run.decode_seconds += read - begin
        return new

    def counted(self, usage: Usage) -> Usage:
        """The same, with what was drafted."""
        plain, speed_up = self.length.plain_seconds, None
        if plain is not None:
            plain += self._choosing_seconds / (usage.completion_tokens - 1)
            speed_up = plain * usage.tokens_per_second
        return replace(
            usage, drafted_tokens=self.drafted_tokens, accepted_tokens=self.accepted_tokens, speed_up=speed_up
        )

    def _accepted(self, run: Generation, logits: NDArray[np.float32], drafts: list[int]) -> list[Piece]:
        """Tokens from logits (n + 1, V) as long as they are the n drafts, and the first that is not."""
        new = []
        for row, draft in zip(logits, [*drafts, None], strict=True):
            begin = time.perf_counter()
            token = run.sampler.sample(run.allowed(row), run.ids)
            seconds = time.perf_counter() - begin
            self._choosing_seconds += seconds
            run.decode_seconds += seconds
            new.append(run.append(token, row))
            if token != draft or run.finish_reason is not None:
                break
        return new
