"""Standard input, output and error, any of which a shell may have closed, or given a full disk or another encoding."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import FormatError, ResourceError


class OutputError(ResourceError):
    """Standard output takes no more: there is no use in going on."""


def prepare() -> None:
    """Before anything is said. Raises OutputError where standard output is closed."""
    if sys.stderr is None:  # closed; `print` would write to standard output instead
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  until the end
    if sys.stdout is None:
        raise OutputError("standard output is closed", remedy="Write to a file, or to /dev/null.")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows "?"


def say(text: str) -> None:
    """Writes to standard output, at once. Raises OutputError, or BrokenPipeError where nobody reads on."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered goes nowhere
        if isinstance(error, BrokenPipeError):
            raise
        remedy = "Make room, or write to another place."
        raise OutputError(f"standard output: {error.strerror}", remedy=remedy, found=error.strerror) from None


def remark(text: str) -> None:
    """Writes a line to standard error, if that takes it."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


def standard_input() -> str:
    """All of it, which is UTF-8."""
    with _readable():
        text = sys.stdin.buffer.read()
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"standard input: not UTF-8 at byte {error.start}",
            remedy="Convert the text to UTF-8.",
            offset=error.start,
            expected="UTF-8",
        ) from None


def lines() -> Iterator[str]:
    """What the user types, line by line, until Ctrl-D or /exit; empty lines are left out."""
    with _readable():
        terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  input() then has a history and can be edited
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding=None if terminal else "utf-8", errors="replace")
    while True:
        try:
            with _readable():
                line = input("> ") if terminal else input()
        except EOFError:
            return
        except KeyboardInterrupt:
            say("\n")
            continue
        if line.strip() == "/exit":
            return
        if line.strip():
            yield line


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Raises ResourceError where what is done with standard input fails."""
    remedy = "Give it a file, a pipe or a terminal."
    if sys.stdin is None:
        raise ResourceError("standard input is closed", remedy=remedy)
    try:
        yield
    except OSError as error:
        raise ResourceError(f"standard input: {error.strerror}", remedy=remedy, found=error.strerror) from None
