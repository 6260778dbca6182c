"""What a forked child has to make anew: locks that other threads held, and threads that stayed with its parent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Protocol
from weakref import ReferenceType, ref


class Inherited(Protocol):
    """What a child has of its parent."""

    def _after_fork(self) -> None:
        """Called in the child, before anything else there."""


# An object that goes takes itself out, by a call of C: Ctrl-C in one of Python's would be lost.
_inherited: set[ReferenceType[Inherited]] = set()
_forking = RLock()


def remember(thing: Inherited) -> None:
    """Has `thing` called in every forked child, as long as it is there."""
    _inherited.add(ref(thing, _inherited.discard))


@contextmanager
def held_up() -> Iterator[None]:
    """Has other threads' forks wait: for a moment in which a child would get what is not meant for it."""
    with _forking:
        yield


def _in_child() -> None:
    _forking.release()
    for each in list(_inherited):
        thing = each()
        if thing is not None:
            thing._after_fork()


os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_in_child)
