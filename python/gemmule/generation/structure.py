"""What an answer must be, as callers ask for it: a JSON schema, a dataclass, a regular expression, a grammar."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from .. import arguments
from ..errors import ArgumentError
from . import structure_bounds
from .json_types import instance_of, schema_of

Schema = dict[str, Any] | type


@dataclass(frozen=True)
class Structure:
    """Attributes:
    kind: the argument it came from.
    source: JSON of the schema, the regular expression or the Lark grammar.
    type: the dataclass, where the schema is one's.
    """

    kind: Literal["schema", "regex", "grammar"]
    source: str
    type: type | None = None

    @classmethod
    def asked(cls, *, schema: Schema | None, regex: str | None, grammar: str | None) -> Structure | None:
        """Of the three arguments at most one is not None. Raises ArgumentError."""
        given = {
            name: each
            for name, each in (("schema", schema), ("regex", regex), ("grammar", grammar))
            if each is not None
        }
        if len(given) > 1:
            found = " and ".join(given)
            raise ArgumentError(
                f"{found} are given; an answer can fit one of them",
                remedy="Write both as one grammar: Lark's %json { } takes a schema, / / a regular expression.",
                expected="one of schema, regex and grammar",
                found=found,
            )
        if schema is not None:
            return cls._of_schema(schema)
        if regex is not None:
            return cls("regex", _text("regex", regex))
        if grammar is None:
            return None
        structure_bounds.check_grammar(_text("grammar", grammar))
        return cls("grammar", grammar)

    @classmethod
    def _of_schema(cls, schema: object) -> Structure:
        type_ = schema if isinstance(schema, type) and dataclasses.is_dataclass(schema) else None
        if type_ is None and not isinstance(schema, dict):
            raise ArgumentError(
                f"schema is {arguments.shown(schema)}; expected a dict, or a dataclass (its type, no instance)",
                expected="a dict or a dataclass",
            )
        data = schema if type_ is None else schema_of(type_)
        try:
            source = json.dumps(data, ensure_ascii=False, allow_nan=False)
            source.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ArgumentError(
                f"schema is no JSON: {error}",
                remedy="Use dicts, lists, strings, finite numbers, booleans and None only.",
                expected="what JSON can write",
            ) from None
        structure_bounds.check_schema(source)
        return cls("schema", source, type_)

    def parse(self, text: str) -> Any:
        """A complete answer: as an instance of the dataclass, as the value that its JSON says, or None."""
        if self.kind != "schema":
            return None
        value = json.loads(text, parse_int=_integer)
        return value if self.type is None else instance_of(self.type, value)


def _text(name: str, value: object) -> str:
    text = arguments.string(name, value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"{name}: no Unicode at character {error.start}: half of a surrogate pair",
            remedy="Write the whole character.",
            expected="Unicode",
            found=repr(text[error.start]),
        ) from None
    return text


def _integer(digits: str) -> int:
    return int(Decimal(digits))  # int() of a text refuses more than 4300 digits
