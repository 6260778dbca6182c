"""Several sequences generated together: every reading of the weights gives each of them a token."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .drafting import Drafting
from .generate import Generation, Piece, Result, first_piece

MOST_TOGETHER = _core.CHUNK_TOKENS

# A pass over fewer tokens takes about as long: it waits for the weights (docs/decisions/0022).
_TOKENS_OF_A_PASS = 8

Begin = Callable[[], Generation]  # a sequence, whose prompt is to be read next


class Request(Protocol):
    """A sequence that somebody wants."""

    def wanted(self) -> bool:
        """Whether somebody still does: asked between steps."""

    def begin(self) -> Generation:
        """The sequence. Asked for when its prompt is about to be read."""

    def said(self, pieces: list[Piece]) -> None:
        """Takes what a step gave."""

    def ended(self, result: Result) -> None:
        """Takes what the pieces are together."""

    def failed(self, error: BaseException) -> None:
        """Takes, in place of a result, what went wrong."""


@dataclass(eq=False)
class _UnderWay:
    request: Request
    run: Generation


@dataclass(frozen=True)
class _InBatch:
    """Appends to a decoder in the scratch memory of a batch."""

    batch: _core.Batch
    decoder: _core.Decoder

    def prefill(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        return self.batch.prefill(self.decoder, ids)

    def read(self, ids: NDArray[np.int32]) -> None:
        self.batch.read(self.decoder, ids)


class Together:
    """Sequences under way together. They come and go between steps; each gets the bits that it would get alone.

    What goes wrong with one, or what a callback of it raises, ends that one.
    """

    def __init__(
        self,
        batch: _core.Batch,
        next_request: Callable[[], Request | None],
        *,
        most: int = MOST_TOGETHER,
        prompt_tokens: int = sys.maxsize,
    ) -> None:
        """
        Args:
            next_request: the one that has waited longest; None: none does.
            most: sequences under way at a time, at most `MOST_TOGETHER`.
            prompt_tokens: read at most so many of a prompt at once; once so many were read, of whichever prompts, those
                that are behind theirs have a step.
        """
        self._batch = batch
        self._next_request = next_request
        self._most = most
        self._prompt_tokens = prompt_tokens
        self._reading: _UnderWay | None = None  # the one whose prompt is read
        self._going: list[_UnderWay] = []  # those behind their prompts

    def turn(self) -> bool:
        """Some prompts, then one step. False: there was nothing to do."""
        self._going = [each for each in self._going if each.request.wanted()]
        if self._reading is not None and not self._reading.request.wanted():
            self._reading = None
        read, going = self._read_prompts(), len(self._going)
        if going == 1 and (drafting := self._going[0].run.drafting) is not None:
            self._draft(self._going[0], drafting)
        elif going:
            self._step()
        return read + going > 0

    def end(self, error: BaseException) -> None:
        """All of them fail."""
        for each in [self._reading, *self._going]:
            if each is not None:
                each.request.failed(error)
        self._reading, self._going = None, []

    def _read_prompts(self) -> int:
        """How many tokens, or more where they took as long as more."""
        read = 0
        while read < self._prompt_tokens:
            each = self._reading = self._reading or self._next()
            if each is None:
                break
            decoder = each.run.decoder
            before, piece = decoder.length, None
            try:
                piece = first_piece(each.run, _InBatch(self._batch, decoder), self._prompt_tokens)
            except BaseException as error:
                self._fail(each, error)
            read += max(decoder.length - before, _TOKENS_OF_A_PASS)
            if piece is not None:
                self._reading = None
                self._going.append(each)
                self._tell(each, [piece])
        return read

    def _next(self) -> _UnderWay | None:
        """The next one that is wanted, where there is room for it."""
        while len(self._going) < self._most and (request := self._next_request()) is not None:
            if request.wanted():
                try:
                    return _UnderWay(request, request.begin())
                except BaseException as error:
                    request.failed(error)
        return None

    def _step(self) -> None:
        """One token more for each."""
        begin = time.perf_counter()
        tokens = self._sampled(self._logits(list(self._going)))
        seconds = time.perf_counter() - begin
        for each, row, token in tokens:
            each.run.decode_seconds += seconds
            try:
                piece = each.run.append(token, row)
            except BaseException as error:
                self._fail(each, error)
            else:
                self._tell(each, [piece])

    def _draft(self, alone: _UnderWay, drafting: Drafting) -> None:
        """Some tokens more for one that shares its passes with nobody."""
        try:
            pieces = drafting.advance(alone.run)
        except BaseException as error:
            self._fail(alone, error)
        else:
            self._tell(alone, pieces)

    def _logits(self, going: list[_UnderWay]) -> list[tuple[_UnderWay, NDArray[np.float32]]]:
        """Of each the logits (V,) behind its last token."""
        try:
            ids = np.concatenate([each.run.unread for each in going])
            logits = self._batch.step([each.run.decoder for each in going], ids)
        except Exception as error:
            if len(going) > 1:  # nobody has advanced: the one whose fault it was shows by itself
                return [row for each in going for row in self._logits([each])]
            self._fail(going[0], error)
            return []
        return list(zip(going, logits, strict=True))

    def _sampled(
        self, rows: list[tuple[_UnderWay, NDArray[np.float32]]]
    ) -> list[tuple[_UnderWay, NDArray[np.float32], int]]:
        """With each row the token that is chosen from it."""
        chosen, open_rows, choices = [], [], []
        for each, row in rows:
            try:
                allowed = each.run.allowed(row)
                if np.isfinite(allowed.max()):
                    open_rows.append((each, row))
                    choices.append(allowed)
                else:  # by itself: as a rule the sampler refuses it, and that is not the others' fault
                    chosen.append((each, row, each.run.sampler.sample(allowed, each.run.ids)))
            except BaseException as error:
                self._fail(each, error)
        samplers = [each.run.sampler for each, _ in open_rows]
        tokens = self._batch.sample(samplers, choices, [each.run.ids for each, _ in open_rows])
        return [*chosen, *((*row, token) for row, token in zip(open_rows, tokens, strict=True))]

    def _tell(self, each: _UnderWay, pieces: list[Piece]) -> None:
        each.request.said(pieces)
        if each.run.finish_reason is not None:
            self._going.remove(each)
            each.request.ended(each.run.result())

    def _fail(self, each: _UnderWay, error: BaseException) -> None:
        if each is self._reading:
            self._reading = None
        else:
            self._going.remove(each)
        each.request.failed(error)


class _Listed:
    """One of several that are waited for together."""

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.result: Result | None = None

    def wanted(self) -> bool:
        return True

    def said(self, pieces: list[Piece]) -> None:
        pass

    def ended(self, result: Result) -> None:
        self.result = result

    def failed(self, error: BaseException) -> None:
        raise error


def finished_together(begins: Iterable[Begin], batch: _core.Batch) -> list[Result]:
    """All of them to their ends, in their order. What each gives are the bits of `generate.finished`.

    The next one begins when there is room for it. What goes wrong with one ends them all.
    """
    requests = [_Listed(begin) for begin in begins]
    waiting = iter(requests)
    together = Together(batch, lambda: next(waiting, None))
    while together.turn():
        pass
    return [request.result for request in requests if request.result is not None]
