"""One call at a time in a conversation: none of another thread meanwhile, and none that the call itself leads to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import wraps
from threading import RLock, get_ident
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from .. import forks
from ..errors import ArgumentError

_LEFT = 0  # no thread's number


class Use:
    """Of one conversation.

    Attributes:
        thread: the number of the one that is in a call; None: none is.
        lock: of `thread`.
    """

    def __init__(self) -> None:
        self.thread: int | None = None
        self._after_fork()
        forks.remember(self)

    def _after_fork(self) -> None:
        self.lock = RLock()
        if self.thread not in (None, get_ident()):  # it stayed with the parent
            self.thread = _LEFT

    def refusal(self) -> ArgumentError:
        """Of a call, because another thread is in one."""
        if self.thread == _LEFT:
            return ArgumentError(
                "this chat was in the middle of a call of another thread when the process was forked",
                remedy='Fork it before that thread uses it, or start processes with "spawn" and load_chat.',
            )
        return ArgumentError("this chat is in use by another thread", remedy="Wait, or use one chat for each thread.")


class _Used(Protocol):
    _use: Use


_O = TypeVar("_O", bound=_Used)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def by_one_thread(call: Callable[Concatenate[_O, _P], _R]) -> Callable[Concatenate[_O, _P], _R]:
    """A method that raises ArgumentError while another thread is in one of the same conversation. It only looks, so
    that a tool that this thread is in may call it."""

    @wraps(call)
    def alone(self: _O, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        use, here, first = self._use, get_ident(), False
        try:
            with use.lock:
                if use.thread is None:
                    first, use.thread = True, here
                elif use.thread != here:
                    raise use.refusal()
            return call(self, *args, **kwargs)
        finally:
            if first:  # Ctrl-C takes effect at calls, and there is none in between
                use.thread = None

    return alone


def by_one_call(call: Callable[Concatenate[_O, _P], _R]) -> Callable[Concatenate[_O, _P], _R]:
    """A method that also raises ArgumentError while this thread is in one: a tool or a processor asks, the handler of a
    signal, or `__del__` of what Python's collector found."""
    alone = by_one_thread(call)

    @wraps(call)
    def only(self: _O, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if self._use.thread == get_ident():
            raise ArgumentError(
                "this chat is in use: the thread that asks is in the middle of another call of it",
                remedy="Let that return first, or use a fork of the chat.",
            )
        return alone(self, *args, **kwargs)

    return only


_T = TypeVar("_T")


class Given(Iterator[_T]):
    """What a conversation gives bit by bit, for whoever asks: each bit is a call."""

    def __init__(self, use: Use, coming: Generator[_T, None, None]) -> None:
        self._use = use
        self._coming = coming

    @by_one_call
    def __next__(self) -> _T:
        return next(self._coming)

    @by_one_call
    def close(self) -> None:
        """Leaves the rest."""
        self._coming.close()
