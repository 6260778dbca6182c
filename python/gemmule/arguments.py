"""Checks of what callers pass. Each returns the value in the type the engine takes, or says what is wrong with it."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError

TokenIds = Sequence[int] | NDArray[np.integer[Any]]


def integer(name: str, value: object, *, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int in least..most. A bool is not a number here."""
    wanted = "an integer"
    if least is not None:
        wanted = f"an integer of at least {least}" if most is None else f"an integer in {least}..{most}"
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise _refused(name, value, wanted) from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise _refused(name, value, wanted)
    return number


def real(name: str, value: object, *, least: float, most: float = math.inf, above: bool = False) -> float:
    """`value` as a finite float in least..most, or over `least` where `above` is set."""
    wanted = f"a number {'over' if above else 'of at least'} {least:g}" + (
        f", at most {most:g}" if most < math.inf else ""
    )
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise _refused(name, value, wanted)
    try:
        number = float(value)
    except OverflowError:
        raise _refused(name, value, wanted) from None
    if not math.isfinite(number) or not least <= number <= most or (above and number == least):
        raise _refused(name, value, wanted)
    return number


def choice(name: str, value: object, choices: Iterable[str]) -> str:
    """`value`, which must be one of `choices`."""
    if isinstance(value, str) and value in choices:
        return value
    raise _refused(name, value, "one of " + ", ".join(f'"{each}"' for each in choices))


def string(name: str, value: object) -> str:
    """`value`, which must be a text."""
    if isinstance(value, str):
        return value
    raise _refused(name, value, "a string")


def path(name: str, value: object, wanted: str = "a path") -> Path:
    """`value` as a path, with ~ as the home folder that it means."""
    try:
        text = os.fspath(value)  # type: ignore[call-overload]
        if isinstance(text, str) and text and "\0" not in text:
            return Path(text).expanduser()
    except (TypeError, RuntimeError):  # no path; ~ of nobody
        pass
    raise _refused(name, value, wanted)


def token_ids(ids: object, vocab_size: int) -> NDArray[np.int32]:
    """`ids` as (T,) int32, T >= 1, each in [0, vocab_size)."""
    numbers = _integers(ids)
    if numbers.size == 0:
        raise ArgumentError(
            "the prompt is empty: no token", remedy="Pass at least one token.", expected="at least 1 token", found="0"
        )
    wrong = np.flatnonzero((numbers < 0) | (numbers >= vocab_size))
    if wrong.size:
        place, value = int(wrong[0]), int(numbers[wrong[0]])
        raise ArgumentError(
            f"token id {value} at position {place} is outside of 0..{vocab_size - 1}",
            remedy="Encode the text with this checkpoint's own tokenizer.",
            expected=f"0..{vocab_size - 1}",
            found=str(value),
        )
    return np.ascontiguousarray(numbers, dtype=np.int32)


def _integers(ids: object) -> NDArray[Any]:
    wanted = "a sequence of integers or a one-dimensional integer array"
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise _refused("the prompt", ids, wanted, found=f"an array of {ids.dtype} with shape {ids.shape}")
        return ids
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise _refused("the prompt", ids, wanted)
    values = list(ids)
    for place, value in enumerate(values):
        if type(value) is not int:
            values[place] = integer(f"the token id at position {place}", value)
    return np.array(values, dtype=object)  # Python's integers: they may be too long for any other type


def _refused(name: str, value: object, wanted: str, *, found: str = "") -> ArgumentError:
    found = found or repr(value)
    if len(found) > 80:
        found = found[:77] + "..."
    return ArgumentError(f"{name} is {found}; expected {wanted}", expected=wanted, found=found)
