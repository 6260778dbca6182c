"""Requests that come and go at any time, generated together on a thread of the model's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import RLock, Thread, current_thread

from .. import _core, forks
from ..errors import ArgumentError, ResourceError
from .batch import Request, Together

NO_THREAD = "End other threads, or raise the limit."  # a remedy


class _Worker(Thread):
    """Works for a scheduler."""

    def __init__(self, scheduler: Scheduler, batch: _core.Batch) -> None:
        super().__init__(target=scheduler.work, args=(batch,), name="gemmule scheduler", daemon=False)
        self.scheduler = scheduler


class Scheduler:
    """Takes requests from any thread, and runs them together in the order in which they came.

    Its thread is there as long as they are, and Python waits for it at its exit: `Request.wanted` must say no by then.
    """

    def __init__(self, new_batch: Callable[[], _core.Batch], most: int) -> None:
        """most: requests under way at a time; the others wait."""
        self._new_batch = new_batch
        self._most = most
        self._after_fork()
        forks.remember(self)

    def _after_fork(self) -> None:
        """Thread and requests stay with the parent."""
        self._lock = RLock()  # of what follows
        self._waiting: deque[Request] = deque()
        self._thread: Thread | None = None

    def submit(self, requests: Sequence[Request]) -> None:
        """Raises ResourceError where the system gives no memory or no thread, ArgumentError on the scheduler's own
        thread, which would wait for itself; none of them is taken then."""
        here = current_thread()
        if isinstance(here, _Worker) and here.scheduler is self:
            raise ArgumentError(
                "a callback of agenerate or astream asks for another of the same model, whose thread it holds up",
                remedy="Use generate or stream in callbacks.",
            )
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                thread = _Worker(self, self._new_batch())
                try:
                    thread.start()
                except RuntimeError as error:
                    raise ResourceError(f"no thread for the model's scheduler: {error}", remedy=NO_THREAD) from None
                self._thread = thread
            self._waiting.extend(requests)

    def work(self, batch: _core.Batch) -> None:
        # Those behind their prompts wait for the chunk of another one, or little more.
        together = Together(batch, self._next, most=self._most, prompt_tokens=_core.CHUNK_TOKENS)
        while self._has_more():
            try:
                while together.turn():
                    pass
            except BaseException as error:  # of no single one: there is no memory for what they share
                together.end(error)

    def _next(self) -> Request | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _has_more(self) -> bool:
        """Whether the thread is needed. If not, the next request starts another."""
        with self._lock:
            if not self._waiting:
                self._thread = None
            return bool(self._waiting)
