"""A tool call as Gemma 4 writes it, `call:NAME{key:value,...}`, and as data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

QUOTE = '<|"|>'  # the control token around strings; what stands between two of them is not looked at

_DEPTH = 64  # of values within values
_MARKS = tuple("{}[]:,")
_MARK_OR_WORD = re.compile(r"[{}\[\]:,]|[^{}\[\]:,]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # JSON's
# As templates and models write them: Python's None, JSON's null.
_WORDS = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True)
class ToolCall:
    """A call that the model asks for.

    Attributes:
        name: of the tool; nobody has looked yet whether there is one.
        arguments: plain data by parameter.
        raw: the call as the model wrote it, without the tokens around it.
    """

    name: str
    arguments: dict[str, Any]
    raw: str


@dataclass(frozen=True)
class MalformedToolCall:
    """What the model wrote in the place of a call.

    Attributes:
        raw: its text, without the tokens around it.
        reason: why it is no call.
        name: of the tool, where that much can be read.
    """

    raw: str
    reason: str
    name: str | None = None


AnyToolCall = ToolCall | MalformedToolCall


def read_call(pieces: Sequence[str]) -> AnyToolCall:
    """The call in `pieces`, its text split at the quotes: the first, third, ... are syntax, the others strings.

    Strict where a guess could call something else than was meant, and tolerant where there is nothing to guess: white
    space, quoted keys, words of any case.
    """
    raw = QUOTE.join(pieces)
    reader = _Reader(_symbols(pieces))
    try:
        name, arguments = reader.call()
    except _SyntaxError as error:
        reason = str(error) if len(pieces) % 2 else "a string has no end"
        return MalformedToolCall(raw, reason, reader.name)
    return ToolCall(name, arguments, raw)


class _SyntaxError(Exception):
    """Why this is no call."""


@dataclass(frozen=True)
class _Symbol:
    text: str
    quoted: bool = False

    def __str__(self) -> str:
        return f"{QUOTE}{self.text}{QUOTE}" if self.quoted else f'"{self.text}"'


_END = _Symbol("")


def _symbols(pieces: Sequence[str]) -> list[_Symbol]:
    symbols = []
    for place, piece in enumerate(pieces):
        if place % 2:
            symbols.append(_Symbol(piece, quoted=True))
        else:
            symbols += [_Symbol(text) for found in _MARK_OR_WORD.findall(piece) if (text := found.strip())]
    return symbols


class _Reader:
    """Reads symbols from the first to the last. `name` is the tool's, once it was read."""

    def __init__(self, symbols: list[_Symbol]) -> None:
        self._symbols = symbols
        self._place = 0
        self.name: str | None = None

    def call(self) -> tuple[str, dict[str, Any]]:
        self._want("call")
        self._want(":")
        symbol = self._next()
        if symbol.quoted or not re.fullmatch(r"\w+", symbol.text):
            self._refuse("a tool's name", symbol)
        self.name = symbol.text
        self._want("{")
        arguments = self._map(1)
        if (behind := self._next()) is not _END:
            self._refuse("nothing more", behind)
        return self.name, arguments

    def _value(self, depth: int) -> Any:
        symbol = self._next()
        if symbol.quoted:
            return symbol.text
        if symbol.text == "{":
            return self._map(_deeper(depth))
        if symbol.text == "[":
            return self._list(_deeper(depth))
        if symbol.text.lower() in _WORDS:
            return _WORDS[symbol.text.lower()]
        number = _number(symbol.text)
        return self._refuse("a value", symbol) if number is None else number

    def _map(self, depth: int) -> dict[str, Any]:
        """Behind its "{"."""
        values: dict[str, Any] = {}
        if self._take("}"):
            return values
        while True:
            key = self._next()
            if not key.quoted and (key is _END or key.text in _MARKS):
                self._refuse("a key", key)
            if key.text in values:
                raise _SyntaxError(f"the key {key} comes twice")
            self._want(":")
            values[key.text] = self._value(depth)
            if self._take("}"):
                return values
            self._want(",", "}")

    def _list(self, depth: int) -> list[Any]:
        """Behind its "["."""
        values: list[Any] = []
        if self._take("]"):
            return values
        while True:
            values.append(self._value(depth))
            if self._take("]"):
                return values
            self._want(",", "]")

    def _next(self) -> _Symbol:
        if self._place == len(self._symbols):
            return _END
        self._place += 1
        return self._symbols[self._place - 1]

    def _take(self, text: str) -> bool:
        """Whether this symbol comes next; then it is read."""
        here = self._place < len(self._symbols) and self._symbols[self._place] == _Symbol(text)
        self._place += here
        return here

    def _want(self, *texts: str) -> None:
        """Reads the first of `texts`; the others might have stood here too."""
        if not self._take(texts[0]):
            self._refuse(" or ".join(f'"{text}"' for text in texts), self._next())

    def _refuse(self, wanted: str, found: _Symbol) -> NoReturn:
        raise _SyntaxError(f"expected {wanted}; found {'the end' if found is _END else found}")


def _deeper(depth: int) -> int:
    if depth == _DEPTH:
        raise _SyntaxError(f"values lie more than {_DEPTH} deep in each other")
    return depth + 1


def _number(text: str) -> int | float | None:
    """None where it is no number, or none that plain data can hold."""
    match = _NUMBER.fullmatch(text)
    if not match:
        return None
    try:
        number = float(text) if match[1] or match[2] else int(text)
    except ValueError:  # more digits than Python reads
        return None
    return None if number in (float("inf"), float("-inf")) else number
