"""Checks of what callers pass. Each returns the value in the type the engine takes, or says what is wrong with it."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError

_LONGEST = 80  # characters of a value in a message

TokenIds = Sequence[int] | NDArray[np.integer[Any]]


def integer(name: str, value: object, *, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int in least..most. A bool is not a number here."""
    with suppress(TypeError):
        number = operator.index(value)  # type: ignore[arg-type]
        in_range = (least is None or number >= least) and (most is None or number <= most)
        if in_range and not isinstance(value, (bool, np.bool_)):
            return number
    wanted = "an integer"
    if least is not None:
        wanted = f"an integer of at least {least}" if most is None else f"an integer in {least}..{most}"
    raise refused(name, value, wanted)


def real(name: str, value: object, *, least: float, most: float = math.inf, above: bool = False) -> float:
    """`value` as a finite float in least..most, or over `least` where `above` is set."""
    wanted = f"a number {'over' if above else 'of at least'} {least:g}" + (
        f", at most {most:g}" if most < math.inf else ""
    )
    kinds = (int, float, np.integer, np.floating)
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, kinds):
        raise refused(name, value, wanted)
    try:
        number = float(value)
    except OverflowError:
        raise refused(name, value, wanted) from None
    if not math.isfinite(number) or not least <= number <= most or (above and number == least):
        raise refused(name, value, wanted)
    return number


def flag(name: str, value: object) -> bool:
    """`value`, which must be True or False: "no" is neither."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise refused(name, value, "True or False")


def choice(name: str, value: object, choices: Iterable[str]) -> str:
    """`value`, which must be one of `choices`."""
    if isinstance(value, str) and value in choices:
        return value
    raise refused(name, value, "one of " + ", ".join(f'"{each}"' for each in choices))


def string(name: str, value: object) -> str:
    """`value`, which must be a text."""
    if isinstance(value, str):
        return value
    raise refused(name, value, "a string")


def path(name: str, value: object, wanted: str = "a path") -> Path:
    """`value` as a path, with the home folder that a "~" in front stands for."""
    with suppress(TypeError):
        text = os.fspath(value)  # type: ignore[call-overload]
        if isinstance(text, str) and text and "\0" not in text:
            # In the text: a Path has lost the "./" in front of a folder that is named "~x".
            text = os.path.expanduser(text)  # noqa: PTH111
            if not text.startswith("~"):  # still, where it is the home of nobody
                return Path(text)
    raise refused(name, value, wanted)


def token_ids(ids: object, vocab_size: int, *, least: int = 1, name: str = "the prompt") -> NDArray[np.int32]:
    """`ids` as (T,) int32, T >= least, each in [0, vocab_size)."""
    numbers = _integers(name, ids)
    if numbers.size < least:
        raise ArgumentError(
            f"{name} is empty: no token", remedy="Pass at least one token.", expected="at least 1 token", found="0"
        )
    wrong = np.flatnonzero((numbers < 0) | (numbers >= vocab_size))
    if wrong.size:
        place, value = int(wrong[0]), int(numbers[wrong[0]])
        raise ArgumentError(
            f"token id {shown(value)} at position {place} is outside of 0..{vocab_size - 1}",
            remedy="Encode the text with this checkpoint's own tokenizer.",
            expected=f"0..{vocab_size - 1}",
            found=shown(value),
        )
    return np.ascontiguousarray(numbers, dtype=np.int32)


def _integers(name: str, ids: object) -> NDArray[Any]:
    wanted = "a sequence of integers or a one-dimensional integer array"
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or is_masked(ids):
            kind = "a masked array" if is_masked(ids) else "an array"
            raise refused(name, ids, wanted, found=f"{kind} of {ids.dtype} with shape {ids.shape}")
        return ids
    if isinstance(ids, (str, bytes, bytearray, memoryview)) or not isinstance(ids, Iterable):
        raise refused(name, ids, wanted)
    values = list(ids)
    for place, value in enumerate(values):
        if type(value) is not int:
            values[place] = integer(f"the token id at position {place}", value)
    return np.array(values, dtype=object)  # Python's integers: they may be too long for any other type


def is_masked(array: NDArray[Any]) -> bool:
    """Whether some of its numbers do not count. To name numpy's class would load a megabyte of code."""
    return hasattr(array, "mask")


def shown(value: object) -> str:
    """`value` as a message shows it: as Python writes it, if that is short and if it can be written at all."""
    try:
        text = repr(value)
    except Exception:  # integers of more than 4,300 digits have none, and anybody's __repr__ may raise
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def refused(name: str, value: object, wanted: str, *, found: str = "", remedy: str = "") -> ArgumentError:
    """The error of an argument that is not what is wanted. found: in place of the value itself."""
    found = found or shown(value)
    return ArgumentError(f"{name} is {found}; expected {wanted}", expected=wanted, found=found, remedy=remedy)
