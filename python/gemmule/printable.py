"""Text from outside as people see it."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """`text` in one line, with what is not seen as escapes: a name in a file cannot break a line, colour a terminal or
    turn its text around. The escapes are those of JSON, so that JSON says the same as before."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
