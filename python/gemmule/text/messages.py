"""Conversations as users pass them: checked, made plain data, and kept from forging control tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..arguments import shown
from ..errors import ArgumentError, UnsupportedError

Message = Mapping[str, Any]

# In a model's earlier answer these are its own marks, which the template reads (it removes thoughts, for one).
_ANSWER_MARKS = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>')
_ANSWER_ROLES = ("assistant", "model")

MOST_LEVELS = 80  # of lists and dicts in each other, those around a call's 64 among them

_FIRST_STAND_IN = 0xF0000  # private-use plane 15: no text means anything by these


def plain(name: str, value: object) -> Any:
    """`value` as JSON would carry it. Raises ArgumentError for anything else in it, lone surrogates included."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
        copied = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"{name}: not plain data: {error}", remedy="Use dicts, lists, strings, numbers, booleans and None only."
        ) from None
    if _is_deep(copied):
        raise ArgumentError(
            f"{name}: lists and dicts lie more than {MOST_LEVELS} deep in each other",
            remedy="Pass data with fewer levels, or as a text.",
            expected=f"at most {MOST_LEVELS} levels",
        )
    return copied


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        level = [each for several in inner for each in several]
    return bool(level)


def check(messages: object) -> list[dict[str, Any]]:
    """`messages` as a non-empty list of dicts with a role each, plain data."""
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)) or not messages:
        raise ArgumentError(
            f"messages are {shown(messages)}; expected a list of dicts",
            remedy='Pass [{"role": "user", "content": "Hello"}].',
            expected="a list of dicts",
        )
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ArgumentError(
                f'message {place} is {shown(message)}; expected a dict with a string "role"',
                remedy='Pass [{"role": "user", "content": "Hello"}].',
                expected='a dict with a string "role"',
            )
    return list(plain("messages", [dict(message) for message in messages]))


def refuse_media(messages: Iterable[Message]) -> None:
    """Raises UnsupportedError where a message holds anything but text."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, dict) else part
            if kind != "text":
                raise UnsupportedError(
                    f"a message holds a part of type {shown(kind)}; only text is read",
                    remedy="Describe it in words.",
                    expected='parts of type "text"',
                    found=shown(kind),
                )


class Shield:
    """Stand-ins for the characters with which control tokens begin and end.

    A template joins its own text, where `<turn|>` is a control token, with text that people wrote, where the same
    letters are only letters. Conversations go through the template with these characters replaced one for one, so that
    afterwards each control token in sight is the template's own, whatever pieces it was split into; `lift` then gives
    the letters back.
    """

    def __init__(self, control_tokens: Iterable[str], *texts: Any) -> None:
        ends = {end for token in control_tokens for end in (token[0], token[-1])}
        ends = {end for end in ends if not end.isalnum() and not end.isspace()}  # templates compare words, and trim
        used = set(json.dumps(texts, ensure_ascii=False))
        free = (chr(code) for code in range(_FIRST_STAND_IN, 0x10FFFE) if chr(code) not in used)
        pairs = dict(zip(sorted(ends), free, strict=False))
        self._put = str.maketrans(pairs)
        self._lift = str.maketrans({stand_in: end for end, stand_in in pairs.items()})

    def put(self, value: Any, keep: Sequence[str] = ()) -> Any:
        """`value` with every string in it shielded, except the marks in `keep`."""
        if isinstance(value, str):
            return self._put_text(value, keep)
        if isinstance(value, list):
            return [self.put(each, keep) for each in value]
        if isinstance(value, dict):
            return {self._put_text(key, ()): self.put(each, keep) for key, each in value.items()}
        return value

    def put_messages(self, messages: list[dict[str, Any]], raw_answers: bool) -> list[dict[str, Any]]:
        """Messages shielded; where `raw_answers` says so, a model's own earlier ones keep the marks in them."""

        def keep(message: Message, key: str) -> Sequence[str]:
            return _ANSWER_MARKS if raw_answers and key == "content" and message["role"] in _ANSWER_ROLES else ()

        return [{key: self.put(value, keep(message, key)) for key, value in message.items()} for message in messages]

    def lift(self, text: str) -> str:
        """`text` with its own characters again."""
        return text.translate(self._lift)

    def _put_text(self, text: str, keep: Sequence[str]) -> str:
        if not keep:
            return text.translate(self._put)
        mark, *others = keep
        return mark.join(self._put_text(piece, others) for piece in text.split(mark))
