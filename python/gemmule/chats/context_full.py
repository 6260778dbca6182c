"""What a chat does when its context is full."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from typing import Any

from .turns import turn_begins

STOP, ERROR, DROP = CHOICES = ("stop", "error", "drop-oldest-turns")


def room_for_answer(context: int, max_tokens: int | None) -> int:
    """Tokens that dropping turns makes room for: an answer of max_tokens, but no more than a quarter of the context."""
    return context // 4 if max_tokens is None else min(max_tokens, context // 4)


def drop_oldest(
    messages: list[dict[str, Any]],
    new: list[dict[str, Any]],
    encode: Callable[[list[dict[str, Any]]], list[int]],
    most: int,
) -> tuple[list[dict[str, Any]], int, list[int]]:
    """What is left of `messages` so that their ids, with `new` behind them, are at most `most`, or no turn is left.

    Returns the messages, how many turns are gone, and the ids. What stands before the first turn stays.
    """
    begins = turn_begins(messages)
    ends = [*begins[1:], len(messages)][: len(begins)]
    if new[0]["role"] == "tool":  # what is new belongs to the last turn, which stays
        ends = ends[:-1]

    def left(dropped: int) -> list[dict[str, Any]]:
        return messages[: begins[0]] + messages[ends[dropped - 1] :] if dropped else messages

    @cache
    def ids(dropped: int) -> list[int]:
        return encode([*left(dropped), *new])

    def fits(dropped: int) -> bool:
        return dropped == len(ends) or len(ids(dropped)) <= most

    # Mostly none has to go, or one. Else halving finds how many, because each look renders all that would be left.
    dropped = 0 if fits(0) else 1 if fits(1) else bisect_left(range(len(ends)), True, lo=2, key=fits)
    return left(dropped), dropped, ids(dropped)
