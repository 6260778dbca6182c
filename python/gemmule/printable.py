"""Text from outside as people see it."""

from __future__ import annotations

import json
from collections.abc import Sequence


def printable(text: str) -> str:
    """`text` in one line, with what is not seen as escapes: a name in a file cannot break a line, colour a terminal or
    turn its text around. The escapes are those of JSON, so that JSON says the same as before."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]  # JSON need not escape DEL
