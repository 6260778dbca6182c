"""Dataclasses as JSON schemas, and JSON values as their instances."""

import enum
import math
import typing
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal, Optional

import numpy as np
import pytest

import gemmule
from gemmule.generation.json_types import instance_of, schema_of
from gemmule.generation.structure import Structure


class Kind(enum.Enum):
    FOX = "fox"
    KING = 7


@dataclass
class Child:
    name: str


@dataclass
class Everything:
    text: str
    whole: int
    number: float
    truth: bool
    nothing: None
    anything: Any
    word: Literal["a", 1, True, None]
    kind: Kind
    child: Child
    children: list[Child]
    pair: tuple[int, str]
    many: tuple[float, ...]
    table: dict[str, list[int]]
    either: int | str | Child
    maybe: Optional[float] = None  # noqa: UP045  both spellings
    default: list[str] = field(default_factory=list)
    made: str = field(init=False, default="by the class")


@dataclass
class Tree:
    left: "Tree | None"
    right: "Tree | None"


VALUE = {
    "text": "x",
    "whole": 3,
    "number": 2,
    "truth": True,
    "nothing": None,
    "anything": [1, {"a": None}],
    "word": 1,
    "kind": 7,
    "child": {"name": "c"},
    "children": [{"name": "d"}, {"name": "e"}],
    "pair": [1, "b"],
    "many": [1, 2.5],
    "table": {"k": [1, 2]},
    "either": {"name": "f"},
    "maybe": 4,
}


def test_schema():
    schema = schema_of(Everything)
    assert schema["$ref"] == "#/$defs/Everything"
    found = schema["$defs"]["Everything"]
    assert found["required"] == list(VALUE)[:-1]
    assert found["additionalProperties"] is False
    array_of_numbers = {"type": "array", "items": {"type": "number"}}
    assert found["properties"] == {
        "text": {"type": "string"},
        "whole": {"type": "integer"},
        "number": {"type": "number"},
        "truth": {"type": "boolean"},
        "nothing": {"type": "null"},
        "anything": {},
        "word": {"enum": ["a", 1, True, None]},
        "kind": {"enum": ["fox", 7]},
        "child": {"$ref": "#/$defs/Child"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/Child"}},
        "pair": {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "items": False,
            "minItems": 2,
        },
        "many": array_of_numbers,
        "table": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}, {"$ref": "#/$defs/Child"}]},
        "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "default": {"type": "array", "items": {"type": "string"}},
    }
    child = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    assert schema["$defs"]["Child"] == {**child, "additionalProperties": False}


def test_instance():
    found = instance_of(Everything, VALUE)
    assert found == Everything(
        text="x",
        whole=3,
        number=2.0,
        truth=True,
        nothing=None,
        anything=[1, {"a": None}],
        word=1,
        kind=Kind.KING,
        child=Child("c"),
        children=[Child("d"), Child("e")],
        pair=(1, "b"),
        many=(1.0, 2.5),
        table={"k": [1, 2]},
        either=Child("f"),
        maybe=4.0,
    )
    assert type(found.number) is type(found.many[0]) is type(found.maybe) is float
    assert type(found.word) is int  # not True, which is equal
    assert found.default == []
    assert instance_of(Everything, VALUE | {"word": True}).word is True


def test_a_type_may_contain_itself():
    assert schema_of(Tree)["$defs"]["Tree"]["properties"]["left"] == {
        "anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]
    }
    leaf = {"left": None, "right": None}
    assert instance_of(Tree, {"left": leaf, "right": None}) == Tree(Tree(None, None), None)


def test_classes_of_one_name():
    @dataclass
    class Child:
        age: int

    @dataclass
    class Both:
        one: Child
        other: Everything

    Both.__annotations__["one"] = Child
    schema = schema_of(Both)
    assert len({each["$ref"] for each in schema["$defs"]["Both"]["properties"].values()}) == 2
    ages = [name for name, each in schema["$defs"].items() if "age" in each.get("properties", {})]
    names = [name for name, each in schema["$defs"].items() if "name" in each.get("properties", {})]
    assert len(ages) == len(names) == 1


def with_field(hint):
    @dataclass
    class Odd:
        odd: hint

    return Odd


@pytest.mark.parametrize(
    "hint",
    [
        *(set[int], bytes, dict[int, str], list, tuple, complex, Literal[b"x"], list[set[int]], "Unknown"),
        *([int], {"a": int}, np.array([1, 2]), typing.Dict, typing.List, "a b", "1/0", Literal[[1]]),  # noqa: UP006
    ],
    ids=repr,
)
def test_refuses_types(hint):
    with pytest.raises(gemmule.ArgumentError, match=r"^schema: .*Odd"):
        schema_of(with_field(hint))


def test_refuses_what_its_fields_do_not_make():
    @dataclass
    class Odd:
        x: int
        y: InitVar[int]

    with pytest.raises(gemmule.ArgumentError, match=r"no Odd can be made from its fields: .*'y'"):
        schema_of(Odd)

    @dataclass(init=False)
    class Own:
        x: int

        def __init__(self, z):
            self.x = z

    with pytest.raises(gemmule.ArgumentError, match=r"no Own can be made from its fields: .*'z'"):
        schema_of(Own)

    @dataclass
    class Even:
        x: int
        y: InitVar[int] = 3

    assert instance_of(Even, {"x": 1}) == Even(1)


def test_refuses_values_that_are_no_json():
    with pytest.raises(gemmule.ArgumentError, match="schema is no JSON"):
        Structure.asked(schema=with_field(Literal["\ud800"]), regex=None, grammar=None)
    odd = enum.Enum("odd", {"NAN": math.nan})
    with pytest.raises(gemmule.ArgumentError, match="schema is no JSON"):
        Structure.asked(schema=with_field(odd), regex=None, grammar=None)


def test_what_a_dataclass_raises_comes_as_it_is():
    @dataclass
    class Positive:
        number: int

        def __post_init__(self):
            if self.number < 0:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        instance_of(Positive, {"number": -1})
    with pytest.raises(ZeroDivisionError):
        instance_of(Positive | int, {"number": -1})
