"""The progress bar of long work."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

from . import arguments
from .printable import printable

_DELAY_S = 1.0  # shorter work shows nothing


def is_shown(wanted: bool) -> bool:
    """Whether a bar would be seen: on a terminal or in a notebook only."""
    if not arguments.flag("progress", wanted):
        return False
    try:
        return sys.stderr.isatty() or "ipykernel" in sys.modules
    except (AttributeError, ValueError):  # a daemon has no standard error, or one that is closed
        return False


class _Bar(tqdm):  # type: ignore[type-arg]
    # tqdm starts a thread with the first bar, shown or not, which looks after bars that skip updates: ours skip none.
    # Where there is no memory for a thread, Python waits forever for it to start.
    monitor_interval = 0


class Progress:
    """A bar on standard error, on a terminal or in a notebook only, for work longer than a second."""

    def __init__(self, total: int, unit: str, *, wanted: bool = True) -> None:
        self._bar: _Bar | None = None  # none where nobody sees it: Ctrl-C while Python does away with it is lost
        if is_shown(wanted):
            self._bar = _Bar(
                total=total,
                miniters=1,
                unit=unit,
                unit_scale=unit == "B",
                delay=_DELAY_S,
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
            )

    def advance(self, steps: int, running: str) -> None:
        """Moves on, and shows the value so far."""
        if self._bar is not None:
            self._bar.set_postfix_str(printable(running), refresh=False)
            self._bar.update(steps)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
