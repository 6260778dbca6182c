"""Tools that a model may call: what it is told of them, and how a call of one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..arguments import shown
from ..errors import ArgumentError, ToolCallError
from ..generation.generate import Result
from ..text.messages import plain
from ..text.tool_calls import AnyToolCall, MalformedToolCall
from . import tool_schema

AnyTool = Callable[..., Any] | Mapping[str, Any]


@dataclass(frozen=True)
class Tool:
    """A tool as templates take it, {"type": "function", "function": {...}}, and the function to call, if it has one."""

    name: str
    schema: dict[str, Any]
    function: Callable[..., Any] | None


@dataclass(frozen=True)
class ToolResult:
    """What came of a call.

    Attributes:
        call: the model's.
        value: what the model is told, plain data: what the function returned, or {"error": text}.
        error: what went wrong, or None.
    """

    call: AnyToolCall
    value: Any
    error: Exception | None = None


@dataclass(frozen=True)
class ToolRun:
    """What `Chat.run` did.

    Attributes:
        answers: all that the model said, in order; each but the last calls tools.
        results: of all calls, in order.
    """

    answers: tuple[Result, ...]
    results: tuple[ToolResult, ...]

    @property
    def text(self) -> str:
        """The text of the last answer."""
        return self.answers[-1].text

    @property
    def finish_reason(self) -> str:
        """That of the last answer; "max_rounds" where it calls tools again, and was not followed any more."""
        return "max_rounds" if self.answers[-1].tool_calls else self.answers[-1].finish_reason


def collect(tools: Iterable[AnyTool]) -> dict[str, Tool]:
    """By name. Raises ArgumentError for one that cannot be told to a model."""
    if isinstance(tools, Mapping) or not isinstance(tools, Iterable):
        raise ArgumentError(f"tools are {shown(tools)}; expected a list", expected="a list of functions or schemas")
    found = []
    for tool in tools:
        schema = tool_schema.checked(tool) if isinstance(tool, Mapping) else tool_schema.of_function(tool)
        function = None if isinstance(tool, Mapping) else tool
        found.append(Tool(schema["function"]["name"], schema, function))
    tool_schema.check_names([tool.name for tool in found])
    return {tool.name: tool for tool in found}


def execute(tools: Mapping[str, Tool], call: AnyToolCall) -> ToolResult:
    """Makes a call. Whatever is wrong with it, with the function or with what that returns, the result says."""
    try:
        function, given = _fitted(tools, call)
        return ToolResult(call, plain(f"the result of {call.name!r}", function(**given)))
    except ToolCallError as error:
        return ToolResult(call, {"error": error.message}, error)
    except Exception as error:
        return ToolResult(call, {"error": f"{type(error).__name__}: {_said(error)}"}, error)


def _said(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # an exception of somebody's own may fail at this, too
        return "no text"


def _fitted(tools: Mapping[str, Tool], call: AnyToolCall) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that is called, and its arguments. Raises ToolCallError."""
    if isinstance(call, MalformedToolCall):
        raise ToolCallError(f"this is no call of a tool: {call.reason}", found=call.raw)
    tool = tools.get(call.name)
    if tool is None or tool.function is None:
        known = ", ".join(name for name, each in tools.items() if each.function) or "none"
        raise ToolCallError(f"no tool has the name {call.name!r}; there are: {known}", expected=known, found=call.name)
    parameters = tool.schema["function"]["parameters"]
    for name in parameters.get("required", []):
        if name not in call.arguments:
            raise ToolCallError(f"{call.name}: the argument {name!r} is missing", expected=name)
    given = {}
    for name, value in call.arguments.items():
        if name not in parameters["properties"]:
            known = ", ".join(parameters["properties"]) or "none"
            raise ToolCallError(f"{call.name}: no argument has the name {name!r}; there are: {known}", expected=known)
        given[name] = _fit(f"{call.name}: the argument {name!r}", parameters["properties"][name], value)
    return tool.function, given


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _fit(where: str, schema: Mapping[str, Any], value: Any) -> Any:
    """`value` as a function's hint wants it. Raises ToolCallError."""
    if value is None and schema.get("nullable"):
        return None
    kind = schema["type"]
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, _PYTHON_TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise ToolCallError(f"{where} is {shown(value)}; expected type {kind}", expected=kind, found=shown(value))
    if value not in schema.get("enum", [value]):
        wanted = ", ".join(map(repr, schema["enum"]))
        raise ToolCallError(f"{where} is {shown(value)}; expected one of {wanted}", expected=wanted, found=shown(value))
    if isinstance(value, list) and "items" in schema:
        return [_fit(f"{where}[{place}]", schema["items"], each) for place, each in enumerate(value)]
    if isinstance(value, dict) and "additionalProperties" in schema:
        return {key: _fit(f"{where}[{key!r}]", schema["additionalProperties"], each) for key, each in value.items()}
    return value
