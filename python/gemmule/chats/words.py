"""The JSON of a file that anybody may have written, bounded before it becomes Python's objects.

The strict reader of checkpoints is not for it: that makes floats of long integers, which a conversation may hold.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from ..text.messages import MOST_LEVELS

# docs/decisions/0028
MOST_BYTES = 6 << 20
_MOST_VALUES = 1 << 16  # and as many strings, keys among them: 16,384 messages
_MOST_LEVELS = MOST_LEVELS + 2  # the file's own around those of messages and tools

_STRING = re.compile(rb'"[^"]*"')
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b'",[]{}'))


def parsed(text: bytes) -> Any:
    """The value in `text`, which has at most MOST_BYTES, as plain as `messages.plain` makes it. Raises ValueError for
    what is none, or too much."""
    check_size(text)
    value = json.loads(text.decode(), object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)
    if _HALF_CHARACTER.search(text):  # mostly with its other half
        json.dumps(value, ensure_ascii=False).encode()
    return value


def check_size(text: bytes) -> None:
    """Raises ValueError for more than is read. Looks at quotes, commas and brackets alone, which a few passes over the
    bytes do."""
    bare = text.replace(rb"\\", b"").replace(rb"\"", b"").translate(_BRACKETS, _OTHERS)
    if bare.count(b'"') > 2 * _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} strings")
    bare = _STRING.sub(b"", bare)
    if bare.count(b",") + bare.count(b"[") > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values")
    if bare.count(b"[") != bare.count(b"]"):
        raise ValueError("brackets that do not close")
    brackets = np.frombuffer(bare.translate(None, b'",'), np.uint8)
    if np.where(brackets == ord("["), 1, -1).cumsum().max(initial=0) > _MOST_LEVELS:
        raise ValueError(f"more than {_MOST_LEVELS} levels")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise ValueError("a key stands twice in one object")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.80} is no finite number")
    return number
