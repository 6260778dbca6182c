"""The progress bar of long work."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

_DELAY_S = 1.0  # shorter work shows nothing


class Progress:
    """A bar on standard error, on a terminal or in a notebook only, for work longer than a second."""

    def __init__(self, total: int, unit: str, *, wanted: bool = True) -> None:
        shown = wanted and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self._bar = tqdm(
            total=total, unit=unit, delay=_DELAY_S, disable=not shown, file=sys.stderr, leave=False, dynamic_ncols=True
        )

    def advance(self, steps: int, running: str) -> None:
        """Moves on, and shows the value so far."""
        self._bar.set_postfix_str(running, refresh=False)
        self._bar.update(steps)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
