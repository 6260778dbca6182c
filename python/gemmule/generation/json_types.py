"""Dataclasses as JSON schemas, and JSON values as instances of them."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from typing import Any

from ..errors import ArgumentError

_KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {  # a JSON value of this kind is read as these
    str: ("string", (str,)),
    int: ("integer", (int,)),
    float: ("number", (int, float)),
    bool: ("boolean", (bool,)),
    type(None): ("null", (type(None),)),
}


def schema_of(dataclass: type) -> dict[str, Any]:
    """The JSON schema of a dataclass: an object with its fields and no others; those with a default may be left out.

    Fields are of type str, int, float, bool, None, Any, Literal, an Enum or another dataclass, or lists, tuples, dicts
    with keys of type str and unions of such. Raises ArgumentError, which names the field, for another type.
    """
    return _Schemas().root(dataclass)


class _MisfitError(Exception):
    """A JSON value is not of the type."""


def instance_of(type_: Any, value: Any) -> Any:
    """A JSON value that fits the schema of a type, as that type. What a dataclass raises comes as it is."""
    origin, inner = typing.get_origin(type_), typing.get_args(type_)
    if type_ is Any:
        return value
    if type_ is None or type_ in _KINDS:
        return _plain(type(None) if type_ is None else type_, value)
    if dataclasses.is_dataclass(type_):
        hints = typing.get_type_hints(type_)
        _require(isinstance(value, dict) and value.keys() <= hints.keys())
        _require(all(name in value for name in _required(type_)))
        return type_(**{name: instance_of(hints[name], each) for name, each in value.items()})  # type: ignore[operator]
    if origin is typing.Literal or _is_enum(type_):
        choices = inner or [each.value for each in type_]
        found = [each for each in choices if type(each) is type(value) and each == value]
        _require(bool(found))
        return found[0] if inner else type_(found[0])
    if origin in (typing.Union, types.UnionType):
        for each in inner:
            try:
                return instance_of(each, value)
            except _MisfitError:
                pass
        raise _MisfitError
    if origin is dict:
        _require(isinstance(value, dict))
        return {key: instance_of(inner[1], each) for key, each in value.items()}
    _require(isinstance(value, list))
    if origin is tuple and inner[-1] is not Ellipsis:
        _require(len(value) == len(inner))
        return tuple(instance_of(each, one) for each, one in zip(inner, value, strict=True))
    return origin(instance_of(inner[0], each) for each in value)


def _plain(type_: type, value: Any) -> Any:
    _require(isinstance(value, _KINDS[type_][1]) and (type_ is bool or not isinstance(value, bool)))
    return float(value) if type_ is float else value


def _require(fits: bool) -> None:
    if not fits:
        raise _MisfitError


def _required(dataclass: Any) -> list[str]:
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(dataclass)
        if field.init and field.default is missing and field.default_factory is missing
    ]


def _is_enum(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, enum.Enum)


class _Schemas:
    """Schemas of types; those of dataclasses are definitions, so that one may contain itself."""

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}
        self._names: dict[type, str] = {}

    def root(self, dataclass: type) -> dict[str, Any]:
        return {**self._dataclass(dataclass), "$defs": self._definitions}

    def _dataclass(self, type_: Any) -> dict[str, Any]:
        name = self._names.get(type_)
        if name is None:
            name = type_.__name__ if type_.__name__ not in self._definitions else f"{type_.__name__}{len(self._names)}"
            self._names[type_] = name
            self._definitions[name] = {}  # the name is taken while the fields are looked at
            self._definitions[name] = self._object(type_)
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, type_: Any) -> dict[str, Any]:
        try:
            hints = typing.get_type_hints(type_)
        except Exception as error:  # hints that are texts are code
            raise ArgumentError(
                f"schema: the types of {type_.__name__}'s fields are not known: {error}",
                remedy="Define what they name at the top level of a module.",
            ) from None
        fields = [field.name for field in dataclasses.fields(type_) if field.init]
        required = _required(type_)
        try:
            for given in (fields, required):
                inspect.signature(type_).bind(**dict.fromkeys(given))
        except TypeError as error:
            raise ArgumentError(
                f"schema: no {type_.__name__} can be made from its fields: {error}",
                remedy="Give what else its constructor takes a default: InitVar, and parameters of an own __init__.",
            ) from None
        return {
            "type": "object",
            "properties": {name: self._of(hints[name], f"{type_.__name__}.{name}") for name in fields},
            "required": required,
            "additionalProperties": False,
        }

    def _of(self, type_: Any, place: str) -> dict[str, Any]:
        origin, inner = typing.get_origin(type_), typing.get_args(type_)
        if type_ is Any:
            return {}
        if type_ is None:
            return {"type": "null"}
        if isinstance(type_, type) and type_ in _KINDS:
            return {"type": _KINDS[type_][0]}
        if isinstance(type_, type) and dataclasses.is_dataclass(type_):
            return self._dataclass(type_)
        if origin is typing.Literal or _is_enum(type_):
            choices = inner or [each.value for each in type_]
            if all(choice is None or type(choice) in _KINDS for choice in choices):
                return {"enum": list(choices)}
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self._of(each, place) for each in inner]}
        if origin is dict and inner[:1] == (str,):
            return {"type": "object", "additionalProperties": self._of(inner[1], place)}
        if origin is tuple and inner and inner[-1] is not Ellipsis:
            items = [self._of(each, place) for each in inner]
            return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        if origin in (list, tuple) and inner:
            return {"type": "array", "items": self._of(inner[0], place)}
        raise ArgumentError(
            f"schema: {place} is of a type that JSON has no counterpart for: {type_}",
            remedy="Use str, int, float, bool, None, Any, Literal, an Enum, a dataclass, or list[...], tuple[...], "
            "dict[str, ...] and unions of these.",
            found=str(type_),
        )
