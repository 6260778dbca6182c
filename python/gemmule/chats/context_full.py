"""What a chat does when its context is full."""

from __future__ import annotations

from collections.abc import Callable
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
    dropped = 0
    while len(ids := encode([*messages, *new])) > most:
        begins = turn_begins(messages)
        ends = [*begins[1:], len(messages)]
        if new[0]["role"] == "tool":  # what is new belongs to the last turn, which stays
            begins = begins[:-1]
        if not begins:
            break
        messages = messages[: begins[0]] + messages[ends[0] :]
        dropped += 1
    return messages, dropped, ids
