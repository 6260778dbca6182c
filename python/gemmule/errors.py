"""What goes wrong, by name. Every exception that gemmule raises on purpose is one of these."""

from __future__ import annotations

from typing import Any

from .printable import printable

_LONGEST = 8_000  # characters: a path of the longest, and more


class GemmuleError(Exception):
    """The base of them all.

    Attributes:
        message: what was found wrong, one printable line; names the place, what was found and what was expected.
        remedy: what to do about it, one line likewise; may be empty.
        details: lines that belong between the two, such as a table; may be empty.
        file, tensor, offset, expected, found: the parts of the message, None where they do not apply; `offset` is in
            bytes from the file's start.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        details: str = "",
        file: str | None = None,
        tensor: str | None = None,
        offset: int | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        self.message = _line(message)
        super().__init__(self.message)
        self.remedy = _line(remedy)
        self.details = details
        self.file = file
        self.tensor = tensor
        self.offset = offset
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.message, self.details, self.remedy)))

    def within(self, place: str) -> GemmuleError:
        """The same error, with words in front that say where."""
        self.message = _line(f"{place}: {self.message}")
        self.args = (self.message,)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls cls(*args) and keeps no keyword. OSError's own form of it loses them all.
        return type(self), (self.message,), dict(self.__dict__)


class FormatError(GemmuleError, ValueError):
    """A file is not what it must be."""


class UnsupportedError(GemmuleError, NotImplementedError):
    """A feature that gemmule does not run; the remedy is the way out."""


class ResourceError(GemmuleError, OSError):
    """The system gave no memory, thread or file. An OSError, because all three are refusals of the system."""


class MissingFileError(GemmuleError, FileNotFoundError):
    """A file or folder is not there."""


class AccessError(GemmuleError, PermissionError):
    """The hub gives a repository only to those who accepted its terms, or who are known to it."""


class NetworkError(GemmuleError, ConnectionError):
    """The hub cannot be reached, or does not answer as a hub does."""


class ArgumentError(GemmuleError, ValueError):
    """An argument is not of the kind, or not in the range, that the call takes."""


class ContextError(ArgumentError):
    """More tokens than the context holds."""


class ToolCallError(GemmuleError, ValueError):
    """A call of a model that cannot be made: malformed, of an unknown tool, or with arguments that do not fit it."""


def _line(text: str) -> str:
    return printable(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")
