"""What a model has read lately, kept so that a sequence that begins alike does not read it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from .. import _core, forks
from .rewinding import common_length

# Shorter beginnings are read again: that is one pass over the weights, as one new token is.
_LEAST_TOKENS = _core.CHUNK_TOKENS
_MOST_PREFIXES = 32  # a new sequence is compared with all of them


@dataclass(frozen=True, eq=False)
class _Prefix:
    ids: NDArray[np.int32]
    decoder: _core.Decoder  # has seen them; only ever forked


class Prefixes:
    """Caches of the sequences read last, the ones used last in front. Threads may share it.

    They are kept where each prompt ends, and where a prompt parts from one that is kept: of many with the same
    beginning, the first two read it. Sliding layers hold little more than their window, so a cache serves a sequence
    that parts from it some tokens before its end, but none that parts far before. Kept caches share their blocks with
    those that went on from them.

    In the midst of any call Python may run a signal's handler or `__del__` of garbage, on the same thread, and that may
    ask too. So the list is never changed, but replaced by another one that is within its bounds.
    """

    def __init__(self, new_decoder: Callable[[], _core.Decoder], most_bytes: int) -> None:
        """most_bytes: of all caches kept, what they share counted once; 0: none is."""
        self.new_decoder = new_decoder
        self._most_bytes = most_bytes
        self._kept: list[_Prefix] = []
        self._after_fork()
        forks.remember(self)

    def _after_fork(self) -> None:
        self._lock = RLock()

    @property
    def bytes(self) -> int:
        """Of the caches that are kept."""
        with self._lock:
            return _bytes(self._kept)

    def begin(self, ids: NDArray[np.int32]) -> _core.Decoder:
        """A decoder that has seen as much of the beginning of `ids` (T,) as any kept one can give, but not all."""
        with self._lock:
            for length, kept in sorted(self._common(ids), key=lambda each: -each[0]):
                if length < _LEAST_TOKENS:
                    break
                decoder = kept.decoder.fork()
                if decoder.rewind(length):
                    self._kept = sorted(self._kept, key=lambda each: each is not kept)  # it in front, if still there
                    return decoder
        return self.new_decoder()

    def halts(self, length: int, ids: NDArray[np.int32]) -> list[int]:
        """Where reading `ids` (T,) behind the first `length` is to halt, so that what is read by then is kept: where
        they part from kept ones, and at their end."""
        with self._lock:
            parting = max((length for length, _ in self._common(ids)), default=0)
        return [parting, len(ids)] if parting - length >= _LEAST_TOKENS else [len(ids)]

    def keep(self, decoder: _core.Decoder, ids: NDArray[np.int32]) -> None:
        """Keeps a fork of a decoder that has seen `ids` (T,)."""
        if len(ids) < _LEAST_TOKENS or decoder.cache_bytes > self._most_bytes:
            return
        new = _Prefix(ids.copy(), decoder.fork())
        with self._lock:
            others = [each for each in self._kept if not np.array_equal(each.ids, ids)]
            kept = [new, *others][:_MOST_PREFIXES]
            while _bytes(kept) > self._most_bytes:
                kept.pop()
            self._kept = kept

    def _common(self, ids: NDArray[np.int32]) -> list[tuple[int, _Prefix]]:
        """Of each one, how many tokens it and `ids` begin with alike, the last of `ids` not counted."""
        return [(common_length(kept.ids, ids[:-1]), kept) for kept in self._kept]


def _bytes(kept: list[_Prefix]) -> int:
    return _core.Decoder.shared_cache_bytes([each.decoder for each in kept])
