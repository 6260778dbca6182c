"""What asyncio's tasks wait for, while a scheduler's thread works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import TypeVar
from weakref import ref

from ..errors import ArgumentError, ResourceError
from .batch import Begin
from .generate import Piece, Result
from .scheduler import NO_THREAD, Scheduler

_News = list[Piece] | Result
_T = TypeVar("_T")


class _Inbox:
    """Where a task gets what is new of its requests. They are wanted as long as it is open, and its loop may run."""

    def __init__(self) -> None:
        self._loop = _running_loop()
        self._thread = threading.current_thread()
        self._news: asyncio.Queue[tuple[int, _News | BaseException]] = asyncio.Queue()
        self._open = True
        if not threading.main_thread().is_alive():  # nothing more is run in threads then
            raise ResourceError("Python is at its exit", remedy="Generate before that.")

    def close(self) -> None:
        self._open = False

    @property
    def is_read(self) -> bool:
        """Whether somebody may still get what is put in. At Python's exit only threads that it waits for do."""
        thread = self._thread
        runs = threading.main_thread().is_alive() or (thread.is_alive() and not thread.daemon)
        return runs and self._open and not self._loop.is_closed()

    async def get(self) -> tuple[int, _News]:
        """What is new next, and of which request. What went wrong is raised."""
        if _running_loop() is not self._loop:
            raise ArgumentError(
                "a stream is read in another event loop than it began in",
                remedy="Read it to its end in one loop, or begin another stream.",
            )
        place, news = await self._news.get()
        if isinstance(news, BaseException):
            raise news
        return place, news

    def put(self, place: int, news: _News | BaseException) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the loop has been closed: nobody reads on
            self._loop.call_soon_threadsafe(self._news.put_nowait, (place, news))


class _Asked:
    """A request of a task, which alone keeps the inbox: where the task is gone, nobody wants the request."""

    def __init__(self, inbox: _Inbox, place: int, begin: Begin) -> None:
        self._inbox = ref(inbox)
        self._place = place
        self.begin = begin

    def wanted(self) -> bool:
        inbox = self._inbox()
        return inbox is not None and inbox.is_read

    def said(self, pieces: list[Piece]) -> None:
        pass

    def ended(self, result: Result) -> None:
        self._put(result)

    def failed(self, error: BaseException) -> None:
        self._put(error)

    def _put(self, news: _News | BaseException) -> None:
        inbox = self._inbox()
        if inbox is not None:
            inbox.put(self._place, news)


class _Followed(_Asked):
    """One that is waited for piece by piece."""

    def said(self, pieces: list[Piece]) -> None:
        self._put(pieces)


def _running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that this is called in. Raises ArgumentError where there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ArgumentError(
            "agenerate and astream need a running event loop of asyncio",
            remedy="Await them in a coroutine that asyncio.run runs, or use generate and stream.",
        ) from None


async def _in_a_thread(call: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(call)
    except RuntimeError as error:
        if str(error) != "can't start new thread":  # as Python says it
            raise
        raise ResourceError(f"no thread to prepare a task in: {error}", remedy=NO_THREAD) from None


async def results(scheduler: Scheduler, prepare: Callable[[], Sequence[Begin]]) -> list[Result]:
    """Of all that `prepare` gives, in their order; it runs in a thread. What goes wrong with one ends the others."""
    inbox = _Inbox()
    try:
        begins = await _in_a_thread(prepare)
        scheduler.submit([_Asked(inbox, *each) for each in enumerate(begins)])
        found: dict[int, Result] = {}
        while len(found) < len(begins):
            place, news = await inbox.get()
            if isinstance(news, Result):
                found[place] = news
        return [found[place] for place in range(len(begins))]
    finally:
        inbox.close()


async def streamed(scheduler: Scheduler, prepare: Callable[[], Begin]) -> AsyncGenerator[Piece, None]:
    """The pieces of what `prepare` gives, as they come; it runs in a thread."""
    inbox = _Inbox()
    try:
        scheduler.submit([_Followed(inbox, 0, await _in_a_thread(prepare))])
        while True:
            _, news = await inbox.get()
            if isinstance(news, Result):
                return
            for piece in news:
                yield piece
    finally:
        inbox.close()
