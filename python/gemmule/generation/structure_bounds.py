"""What llguidance must not be asked: there it crashes, takes minutes, or writes other numbers than were asked for."""

from __future__ import annotations

import json
import math
import re
from itertools import repeat
from typing import Any, NoReturn

from ..errors import ArgumentError

# Floats hold every integer up to here, and llguidance reads numbers as floats. From 2^63 on it crashes.
_LARGEST = 2**53 - 1

# llguidance builds a state for each remainder: 0.1 s and 20 MB for these. Its products of two are 32 bits.
_LARGEST_MULTIPLE = 30_000
_MOST_DECIMALS = 8

# serde_json, which reads schemas, takes 128, with what llguidance puts around them.
_DEEPEST = 120

# It goes from definition to definition, and from rule to rule, on the stack: 8 MiB are full at 1.7 times as many
# levels, or twice as many rules.
_MOST_LEVELS = 1_000
_MOST_RULES = 1_000

_NESTED = re.compile(r"%json\s*")


def check_schema(schema: str) -> None:
    """JSON of a schema. Raises ArgumentError."""
    try:
        _check("schema", json.loads(schema, parse_int=float))
    except RecursionError:
        raise _too_deep("schema", "too many") from None


def check_grammar(grammar: str) -> None:
    """A Lark grammar, and the schemas in it. Raises ArgumentError."""
    rules, place = 0, 0
    decoder = json.JSONDecoder(parse_int=float, parse_constant=_no_json)
    for found in _NESTED.finditer(grammar):
        try:
            schema, end = decoder.raw_decode(grammar, found.end())
            _check("grammar: %json", schema)
        except RecursionError:
            raise _too_deep("grammar: %json", "too many") from None
        except json.JSONDecodeError:
            continue  # llguidance says what is wrong with it
        rules += _rules(grammar[place : found.start()])
        place = max(place, end)
    rules += _rules(grammar[place:])
    if rules > _MOST_RULES:
        raise ArgumentError(
            f"grammar: it has {rules} rules and brackets; expected at most {_MOST_RULES}",
            remedy="Write lists of words as regular expressions.",
            expected=f"at most {_MOST_RULES}",
            found=str(rules),
        )


def _rules(grammar: str) -> int:
    return sum(map(grammar.count, ":(["))


def _no_json(constant: str) -> NoReturn:
    raise json.JSONDecodeError(f"{constant} is no JSON", constant, 0)


def _check(kind: str, schema: Any) -> None:
    deepest = 0
    references: set[str] = set()
    multiples: set[float] = set()
    rest: list[tuple[Any, str, int]] = [(schema, "", 1)]
    while rest:
        value, key, depth = rest.pop()
        if isinstance(value, (dict, list)):
            deepest = max(deepest, depth)
            named = value.items() if isinstance(value, dict) else zip(repeat(key), value)
            rest.extend((each, name, depth + 1) for name, each in named)
        elif isinstance(value, float):
            _check_number(kind, key, value)
            if key == "multipleOf" and value:
                multiples.add(abs(value))
        elif key == "$ref":
            references.add(str(value))
    if deepest > _DEEPEST:
        raise _too_deep(kind, str(deepest))
    if (levels := (len(references) + 1) * deepest) > _MOST_LEVELS:
        raise ArgumentError(
            f"{kind}: {len(references)} references and {deepest} levels of brackets; expected a product "
            f"of at most {_MOST_LEVELS}",
            remedy="Leave out definitions that the answer does not need.",
            expected=f"at most {_MOST_LEVELS}",
            found=str(levels),
        )
    _check_multiples(kind, multiples)


def _check_number(kind: str, key: str, value: float) -> None:
    if abs(value) > _LARGEST:
        raise ArgumentError(
            f"{kind}: {key or 'a number'} is {value:.17g}; expected at most 2^53 - 1 in size",
            remedy="Leave it out, and check the value afterwards, or ask for a string with a pattern of digits.",
            expected=f"-{_LARGEST}..{_LARGEST}",
            found=f"{value:.17g}",
        )


def _check_multiples(kind: str, multiples: set[float]) -> None:
    """Where schemas are joined, llguidance forms the common multiple of theirs."""
    if not multiples:
        return
    units, decimals = zip(*map(_in_units, multiples), strict=True)
    common, spread = math.lcm(*units), max(decimals) - min(decimals)
    if common > _LARGEST_MULTIPLE or max(decimals) > _MOST_DECIMALS or common**2 * 10**spread >= 2**32:
        found = ", ".join(f"{each:.17g}" for each in sorted(multiples))
        raise ArgumentError(
            f"{kind}: multipleOf is {found:.80}; expected, without decimal points, a common multiple of at most "
            f"{_LARGEST_MULTIPLE}",
            remedy="Leave it out, and round the value afterwards.",
            expected=f"at most {_LARGEST_MULTIPLE}, {_MOST_DECIMALS} decimals",
            found=found,
        )


def _in_units(value: float) -> tuple[int, int]:
    """(n, e) where value = n / 10^e, as llguidance finds them."""
    decimals = 0
    while value % 1:
        value, decimals = value * 10, decimals + 1
    return int(value), decimals


def _too_deep(kind: str, levels: str) -> ArgumentError:
    return ArgumentError(
        f"{kind}: {levels} levels of brackets; expected at most {_DEEPEST}",
        remedy='Put inner schemas into "$defs", and refer to them by "$ref".',
        expected=f"at most {_DEEPEST}",
        found=levels,
    )
