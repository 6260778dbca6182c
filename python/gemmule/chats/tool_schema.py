"""What a model is told of a tool: the JSON schema of a Python function, or one that a caller wrote, checked."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from ..arguments import shown
from ..errors import ArgumentError
from ..text.messages import plain

_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ALL_TYPES = (*_TYPES.values(), "array", "object")

# Gemma's template takes properties with these names for keys of the schema, and leaves them out.
_TAKEN_NAMES = ("description", "type", "properties", "required", "nullable")
# It writes names without quotes.
_NAME = re.compile(r"[\w.$-]+")
# It writes none of these, and without them a schema says something else.
_COMBINED = ("$ref", "allOf", "anyOf", "const", "not", "oneOf")


def of_function(function: Callable[..., Any]) -> dict[str, Any]:
    """The schema of a function as chat templates take it: from its type hints, and from its docstring (the text before
    the first section, and the notes of "Args:"). Raises ArgumentError where a call could not say an argument."""
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        raise ArgumentError(
            f"a tool is {shown(function)}; expected a function of Python's or a schema",
            remedy="Write a function with type hints that calls it, or pass a JSON schema as a dict.",
            expected="a function or a dict",
        )
    name = function.__name__
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ArgumentError(
            f"tool {name!r} gives no value when it is called: it is asynchronous or a generator",
            remedy="Write a function that waits for the value and returns it.",
        )
    try:
        hints = typing.get_type_hints(function)
        parameters = inspect.signature(function).parameters.values()
    except Exception as error:  # hints that are texts are code
        raise ArgumentError(
            f"tool {name!r}: its type hints cannot be read: {error}",
            remedy="Write hints with names that its module knows.",
        ) from None
    text, notes = _docstring(inspect.getdoc(function) or "")
    properties = {each.name: _of_parameter(name, each, hints, notes) for each in parameters}
    required = [each.name for each in parameters if each.default is each.empty]
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return {"type": "function", "function": {"name": name, "description": text, "parameters": schema}}


def checked(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A caller's schema, {"type": "function", "function": {"name", "description", "parameters"}}, as plain data and as
    the template can write it. Raises ArgumentError where that would leave out what a call needs to know."""
    tool = plain("a tool", dict(schema))
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ArgumentError(
            f"a tool is {shown(tool)}; expected a schema with a name",
            remedy='Pass {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}.',
            expected='{"type": "function", "function": {"name": ...}}',
        )
    name, parameters = function["name"], function.get("parameters")
    if not isinstance(function.get("description", ""), str):
        raise _refused(name, "", "its description is no string", "Write it as one.")
    if parameters:
        if not isinstance(parameters, dict) or parameters.get("type") != "object":
            raise _refused(name, "", 'its parameters are no schema of type "object"', "Write them as one.")
        _check_properties(name, "", parameters)
    response = function.get("response")
    if "response" in function and (not isinstance(response, dict) or response.get("type") not in ("object", "OBJECT")):
        raise _refused(name, "", 'its response is no schema of type "object"', "Leave it out, or write it as one.")
    return dict(tool)


def check_names(names: list[str]) -> None:
    """Raises ArgumentError for a name that a call cannot spell, or that two tools have."""
    for place, name in enumerate(names):
        if not name.isidentifier():
            raise _refused(name, "", "its name is no identifier", "Give it a name of letters, digits and underscores.")
        if name in names[:place]:
            raise _refused(name, "", "another tool has this name too", "Rename one of them.")


def _of_parameter(tool: str, parameter: inspect.Parameter, hints: dict[str, Any], notes: dict[str, str]) -> Any:
    name = parameter.name
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise _refused(tool, name, "it has no name that a call could use", "Give the function named parameters only.")
    if name not in hints:
        raise _refused(tool, name, "it has no type hint", f"Write one, such as {name}: str.")
    schema = _of_hint(tool, name, hints[name])
    _check_name(tool, name, name)
    return {"description": notes[name], **schema} if name in notes else schema


def _of_hint(tool: str, parameter: str, hint: Any) -> dict[str, Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and hint in _TYPES:
        return {"type": _TYPES[hint]}
    if origin is typing.Literal and all(isinstance(each, str) for each in inner):
        return {"type": "string", "enum": list(inner)}
    if hint is list or (origin is list and inner in ((), (Any,))):
        return {"type": "array"}
    if origin is list:
        return {"type": "array", "items": _of_hint(tool, parameter, inner[0])}
    if hint is dict or (origin is dict and inner in ((), (str, Any))):
        return {"type": "object", "properties": {}}
    if origin is dict and inner[0] is str:
        values = _of_hint(tool, parameter, inner[1])
        return {"type": "object", "properties": {}, "additionalProperties": values}
    if origin in (typing.Union, types.UnionType) and len(inner) == 2 and type(None) in inner:
        other = inner[0] if inner[1] is type(None) else inner[1]
        return {**_of_hint(tool, parameter, other), "nullable": True}
    raise _refused(
        tool,
        parameter,
        f"a schema for models cannot say its type, {hint}",
        "Use str, int, float, bool, Literal of strings, list, dict with keys of type str, or one of these | None.",
    )


def _check_properties(tool: str, above: str, schema: dict[str, Any]) -> None:
    """Of a schema of type "object", whose own place is `above`: "" or a path with a dot behind it."""
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    named = isinstance(required, list) and all(isinstance(name, str) for name in required)
    if not isinstance(properties, dict) or not named:
        reason = "its properties are no dict, or its required names no list of strings"
        raise _refused(tool, above.rstrip("."), reason, "Write them as a dict and a list of strings.")
    for name, value in properties.items():
        _check_name(tool, above + name, name)
        _check_schema(tool, above + name, value)
        if value["type"].lower() == "object":  # without properties, the template takes the schema's other keys for them
            value.setdefault("properties", {})
        if "enum" in value and value["type"].lower() != "string":
            reason = f"it has an enum of type {value['type']!r}; the template writes those of strings only"
            raise _refused(tool, above + name, reason, "Make it a string, or name the values in the description.")
    if missing := [name for name in required if name not in properties]:
        raise _refused(tool, above + str(missing[0]), "it is required, and no property", "Describe it in properties.")


def _check_schema(tool: str, parameter: str, schema: object) -> None:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(kind, str) or kind.lower() not in _ALL_TYPES:
        wanted = ", ".join(f'"{each}"' for each in _ALL_TYPES)
        remedy = f'Give it one "type" of {wanted}; for a value that may be null, set "nullable": true.'
        raise _refused(tool, parameter, f"its type is {shown(kind)}", remedy)
    if found := [key for key in _COMBINED if key in schema]:
        raise _refused(tool, parameter, f"the template cannot write {found[0]!r}", "Write the schema without it.")
    if not isinstance(schema.get("enum", []), list):
        raise _refused(tool, parameter, "its enum is no list", "Write a list of values.")
    if "items" in schema:
        _check_schema(tool, f"{parameter}[]", schema["items"])
    if "properties" in schema or "required" in schema:
        _check_properties(tool, f"{parameter}.", schema)


def _check_name(tool: str, parameter: str, name: str) -> None:
    if name in _TAKEN_NAMES:
        raise _refused(tool, parameter, "the template takes this name for a part of the schema", "Rename it.")
    if not _NAME.fullmatch(name):
        raise _refused(tool, parameter, "its name has characters that a call cannot spell", "Rename it.")


def _refused(tool: str, parameter: str, reason: str, remedy: str) -> ArgumentError:
    place = f"tool {tool!r}" + (f", parameter {parameter!r}" if parameter else "")
    return ArgumentError(f"{place}: {reason}", remedy=remedy, found=parameter or tool)


_SECTION = re.compile(r"[A-Z]\w*( \w+)?:")
_ENTRY = re.compile(r"(\w+)(?: \([^)]*\))?: *(.*)")


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The text before the first section, and the entries of "Args:" by name, in Google's style."""
    lines = text.splitlines()
    places = [place for place, line in enumerate(lines) if _SECTION.fullmatch(line.rstrip())] + [len(lines)]
    notes: dict[str, str] = {}
    for place, end in pairwise(places):
        if lines[place].strip() in ("Args:", "Arguments:", "Parameters:"):
            notes = _entries(inspect.cleandoc("\n".join(["", *lines[place + 1 : end]])))
    return _joined(lines[: places[0]]), notes


def _entries(section: str) -> dict[str, str]:
    """`name: text` or `name (type): text`, with lines that go on further in."""
    entries: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in section.splitlines():
        if found := _ENTRY.fullmatch(line):
            lines = entries[found[1]] = [found[2]]
        elif line.startswith(" "):
            lines.append(line)
    return {name: _joined(text) for name, text in entries.items()}


def _joined(lines: list[str]) -> str:
    """The words of some lines in one: breaks in a docstring are those of its width."""
    return " ".join(" ".join(lines).split())
