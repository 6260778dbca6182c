"""Several sequences generated together: every reading of the weights gives each of them a token."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

import numpy as np

from . import _core
from .generate import Generation, Result, first_piece


def finished_together(runs: Iterable[Generation], batch: _core.Batch) -> list[Result]:
    """All of them to their ends, in their order. What each gives are the bits of `generate.finished`.

    At most `_core.CHUNK_TOKENS` go at a time; the next one is taken, and its prompt read, when one has come to its end.
    """
    results: dict[int, Result] = {}
    waiting = enumerate(runs)
    going: dict[int, Generation] = {}
    while True:
        for place, run in islice(waiting, _core.CHUNK_TOKENS - len(going)):
            first_piece(run, partial(batch.prefill, run.decoder))
            going[place] = run
        if not going:
            return [results[place] for place in range(len(results))]
        unfinished = [run for run in going.values() if run.finish_reason is None]
        if unfinished:  # a sequence may end with its first token
            _step(unfinished, batch)
        for place in [place for place, run in going.items() if run.finish_reason is not None]:
            results[place] = going.pop(place).result()


def _step(runs: Sequence[Generation], batch: _core.Batch) -> None:
    """One token more for each."""
    begin = time.perf_counter()
    logits = batch.step([run.decoder for run in runs], np.concatenate([run.unread for run in runs]))
    allowed = [run.allowed(row) for run, row in zip(runs, logits, strict=True)]
    tokens = batch.sample([run.sampler for run in runs], allowed, [run.ids for run in runs])
    seconds = time.perf_counter() - begin
    for run, token, row in zip(runs, tokens, logits, strict=True):
        run.decode_seconds += seconds
        run.append(token, row)
