"""Answers, calls and their results as messages of a conversation, in the form that chat templates take."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from .. import arguments
from ..generation.generate import Result
from ..text.messages import plain
from ..text.tool_calls import AnyToolCall, ToolCall

# What each kind of message here holds beside its role.
_MEMBERS: dict[str, dict[str, Any]] = {
    "system": {"content": str},
    "user": {"content": str},
    "assistant": {"content": str, "reasoning": str, "tool_calls": list},
    "tool": {"content": (str, dict), "name": str, "tool_call_id": str},
}
_OPTIONAL = {"reasoning", "tool_calls"}
_NOT_EXECUTED = {"error": "not executed"}


def checked(messages: Any) -> list[dict[str, Any]]:
    """Messages from a file, plain data, which must be such as stand in a chat. Raises ValueError, KeyError, TypeError
    or AttributeError for others."""
    if not isinstance(messages, list):
        raise TypeError(f"messages are {messages!r:.80}")
    for place, message in enumerate(messages):
        members = _MEMBERS[arguments.choice(f"the role of message {place}", message["role"], _MEMBERS)]
        if not members.keys() - _OPTIONAL <= message.keys() - {"role"} <= members.keys():
            raise ValueError(f"message {place} has {[*message]!r:.80}; expected role, {', '.join(members)}")
        for key in message.keys() - {"role"}:
            if not isinstance(message[key], members[key]):
                raise TypeError(f"{key} of message {place} is {message[key]!r:.80}")
        for call in message.get("tool_calls", []):
            arguments.string(f"the id of a call in message {place}", call["id"])
            arguments.string(f"the name of a call in message {place}", call["function"]["name"])
            if not isinstance(call["function"]["arguments"], (dict, str)):
                raise TypeError(f"the arguments of a call in message {place} are {call['function']['arguments']!r:.80}")
    return messages


def answer_message(answer: Result, name: str) -> dict[str, Any]:
    """A model's answer. `name` is the beginning of its calls' ids."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.thinking is not None:
        message["reasoning"] = answer.thinking
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": f"{name}_{place}", "type": "function", "function": _function(call)}
            for place, call in enumerate(answer.tool_calls)
        ]
    return message


def calls_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls that wait for results: those of the last message, as they stand in it."""
    return list(messages[-1].get("tool_calls", [])) if messages else []


def result_messages(calls: Iterable[dict[str, Any]], results: Iterable[Any]) -> list[dict[str, Any]]:
    """The results of calls. Raises ArgumentError for one that is not plain data."""
    return [
        {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": _content(result)}
        for call, result in zip(calls, results, strict=True)
    ]


def not_executed(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What stands behind calls that nobody made. The empty answer ends the model's turn, which results leave open."""
    if not calls:
        return []
    results = result_messages(calls, [_NOT_EXECUTED for _ in calls])
    return [*results, {"role": "assistant", "content": ""}]


def turn_begins(messages: list[dict[str, Any]]) -> list[int]:
    """Places of the messages with which turns begin: what people said, and before it what `not_executed` put there."""
    return [_begin_of_turn(messages, place) for place, each in enumerate(messages) if each["role"] == "user"]


def _begin_of_turn(messages: list[dict[str, Any]], place: int) -> int:
    begin = place - 1
    while begin > 0 and messages[begin - 1].get("content") == _NOT_EXECUTED:
        begin -= 1
    return place if begin in (-1, place - 1) else begin


def shown(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages for the template. It would write the text beside calls behind their results, and end the turn there."""
    return [{**message, "content": ""} if "tool_calls" in message else message for message in messages]


def _function(call: AnyToolCall) -> dict[str, Any]:
    if isinstance(call, ToolCall):
        return {"name": call.name, "arguments": deepcopy(call.arguments)}  # the call's own are the caller's to change
    # The template writes a string between braces as it is.
    written = call.raw.partition("{")[2] or call.raw
    return {"name": call.name or "unknown", "arguments": written.removesuffix("}")}


def _content(result: Any) -> Any:
    """A result in the form in which the template writes it as what it is: a list by itself would be parts of a text."""
    result = plain("a tool's result", result)
    return result if isinstance(result, (str, dict)) else {"value": result}
