"""Tools: the schemas of functions, what cannot be told to a model, and calls made of what it writes."""

import functools
import math
import typing
from typing import Any, Literal, Optional

import pytest

import gemmule
from fakes import TOKENIZER
from gemmule.chats.tools import collect, execute
from gemmule.text.tool_calls import MalformedToolCall, ToolCall


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius", days: list[int] | None = None) -> str:
    """Weather of a place,
    now or soon.

    It comes from a table.

    Args:
        city: the city's name: in English,
            or in its own language
        unit (str): of the temperature
        nobody: is no parameter

    Returns:
        A sentence.

    Raises:
        ValueError: never.
    """
    return f"{city}: 21 {unit}, {days}"


def schema_of(function):
    (tool,) = collect([function]).values()
    assert tool.function is function
    return tool.schema["function"]


def test_a_function():
    assert schema_of(get_weather) == {
        "name": "get_weather",
        "description": "Weather of a place, now or soon. It comes from a table.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "the city's name: in English, or in its own language"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "of the temperature"},
                "days": {"type": "array", "items": {"type": "integer"}, "nullable": True},
            },
            "required": ["city"],
        },
    }


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list, {"type": "array"}),
        (list[Any], {"type": "array"}),
        (typing.List, {"type": "array"}),  # noqa: UP006
        (list[list[float]], {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}),
        (dict, {"type": "object", "properties": {}}),
        (dict[str, Any], {"type": "object", "properties": {}}),
        (typing.Dict, {"type": "object", "properties": {}}),  # noqa: UP006
        (dict[str, int], {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}}),
        (Optional[int], {"type": "integer", "nullable": True}),  # noqa: UP045
        (None | str, {"type": "string", "nullable": True}),
        ("int", {"type": "integer"}),
        (Literal["a"], {"type": "string", "enum": ["a"]}),
    ],
)
def test_hints(hint, schema):
    def tool(x):
        pass

    tool.__annotations__ = {"x": hint}
    assert schema_of(tool)["parameters"] == {"type": "object", "properties": {"x": schema}, "required": ["x"]}


@pytest.mark.parametrize(
    "hint",
    [
        *(Any, object, bytes, tuple, tuple[int], set[int], complex, dict[int, str], int | str, Literal[1]),
        *(list[Any | int], [int], {"a": int}),
    ],
    ids=str,
)
def test_hints_that_no_schema_can_say(hint):
    def tool(where):
        pass

    tool.__annotations__ = {"where": hint}
    with pytest.raises(gemmule.ArgumentError, match=r"tool 'tool', parameter 'where': .*type") as caught:
        collect([tool])
    assert "Use str" in caught.value.remedy


def test_a_function_without_anything():
    def tool():
        pass

    assert schema_of(tool) == {
        "name": "tool",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }


def test_methods_and_wrapped_functions():
    class Shop:
        def price(self, item: str) -> float:
            """Price of an item."""
            return len(item)

    tools = collect([Shop().price])
    assert list(tools["price"].schema["function"]["parameters"]["properties"]) == ["item"]
    assert execute(tools, ToolCall("price", {"item": "hat"}, "")).value == 3

    @functools.wraps(get_weather)
    def wrapped(*args, **kwargs):
        return get_weather(*args, **kwargs)

    assert schema_of(wrapped) == schema_of(get_weather)


def no_hint(x):
    pass


def any_number(*xs: int):
    pass


def any_names(**xs: int):
    pass


def without_a_name(x: int, /):
    pass


def unknown_hint(x: "Nowhere"):  # noqa: F821
    pass


def no_hint_at_all(x: "a b"):  # noqa: F722
    pass


def taken_name(description: str):
    pass


async def asynchronous(x: int):
    pass


def generator(x: int):
    yield x


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        (no_hint, "tool 'no_hint', parameter 'x': it has no type hint"),
        (any_number, "tool 'any_number', parameter 'xs': it has no name"),
        (any_names, "tool 'any_names', parameter 'xs': it has no name"),
        (without_a_name, "tool 'without_a_name', parameter 'x': it has no name"),
        (unknown_hint, "tool 'unknown_hint': its type hints cannot be read: name 'Nowhere'"),
        (no_hint_at_all, "tool 'no_hint_at_all': its type hints cannot be read: "),
        (taken_name, "tool 'taken_name', parameter 'description': the template takes this name"),
        (asynchronous, "tool 'asynchronous' gives no value"),
        (generator, "tool 'generator' gives no value"),
        (lambda: 0, "tool '<lambda>': its name is no identifier"),
        (math.sqrt, "expected a function"),
        (functools.partial(get_weather, "Paris"), "expected a function"),
        (str, "expected a function"),
        ("get_weather", "expected a function"),
    ],
)
def test_functions_that_are_no_tools(tool, message):
    with pytest.raises(gemmule.ArgumentError, match=message) as caught:
        collect([tool])
    assert caught.value.remedy


def described(name="f", **parameters):
    properties = {"type": "object", "properties": parameters}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": properties}}


def test_schemas_go_as_they_are():
    schema = described(
        a={"type": "string", "enum": ["x"], "title": "A"},
        b={"type": "ARRAY", "items": {"type": "object", "properties": {"c": {"type": "number", "nullable": True}}}},
    )
    schema["function"]["parameters"]["required"] = ["a"]
    (tool,) = collect([schema]).values()
    assert (tool.schema, tool.function) == (schema, None)
    assert tool.schema is not schema
    collect([{"type": "function", "function": {"name": "f"}}])


def test_the_template_writes_no_key_of_a_schema_as_a_property():
    tokenizer = gemmule.Tokenizer.from_pretrained(TOKENIZER)

    def rendered(schema):
        tools = [tool.schema for tool in collect([described(x=schema)]).values()]
        return tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tools=tools)

    wanted = rendered({"type": "object"})
    assert "{x:{properties:{},type:" in wanted
    assert rendered({"type": "object", "title": "X", "additionalProperties": {"type": "string"}}) == wanted


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ({"name": "f"}, "expected a schema with a name"),
        ({"type": "function", "function": {"name": 7}}, "expected a schema with a name"),
        ({"type": "function", "function": {"name": object()}}, "not plain data"),
        ({"type": "function", "function": {"name": "f", "description": 7}}, "tool 'f': its description"),
        ({"type": "function", "function": {"name": "f", "parameters": {"x": {}}}}, "tool 'f': its parameters"),
        ({"type": "function", "function": {"name": "f", "response": {"type": "string"}}}, "tool 'f': its response"),
        (described("get-weather"), "tool 'get-weather': its name is no identifier"),
        (described("f{x"), "its name is no identifier"),
        (described(x={}), "tool 'f', parameter 'x': its type is None"),
        (described(x=True), "tool 'f', parameter 'x': its type is None"),
        (described(x={"type": ["string", "null"]}), r"tool 'f', parameter 'x': its type is \['string', 'null'\]"),
        (described(x={"type": "text"}), "tool 'f', parameter 'x': its type is 'text'"),
        (described(x={"type": "string", "anyOf": []}), "parameter 'x': the template cannot write 'anyOf'"),
        (described(x={"type": "integer", "enum": [1]}), "parameter 'x': it has an enum of type 'integer'"),
        (described(x={"type": "string", "enum": "a"}), "parameter 'x': its enum is no list"),
        (described(x={"type": "array", "items": {}}), r"parameter 'x\[\]': its type is None"),
        (described(x={"type": "object", "properties": {"y": {}}}), r"parameter 'x\.y': its type is None"),
        (described(x={"type": "object", "properties": []}), "parameter 'x': its properties are no dict"),
        (described(x={"type": "object", "required": [["y"]]}), "parameter 'x': .* no list of strings"),
        (described(x={"type": "object", "required": ["y"]}), r"parameter 'x\.y': it is required, and no property"),
        (described(type={"type": "string"}), "parameter 'type': the template takes this name"),
        (described(**{"a:b": {"type": "string"}}), "parameter 'a:b': its name has characters"),
        (described(**{"<turn|>": {"type": "string"}}), "its name has characters"),
    ],
)
def test_schemas_that_cannot_be_told(tool, message):
    with pytest.raises(gemmule.ArgumentError, match=message) as caught:
        collect([tool])
    assert caught.value.remedy


def test_names_are_unique():
    with pytest.raises(gemmule.ArgumentError, match="tool 'get_weather': another tool has this name"):
        collect([get_weather, described("get_weather")])


@pytest.mark.parametrize("tools", [{"f": get_weather}, get_weather, 7, None])
def test_tools_are_a_list(tools):
    with pytest.raises(gemmule.ArgumentError, match="expected a list"):
        collect(tools)


# Calls


def takes(a: int = 0, b: float = 0, c: list[int] | None = None, d: dict[str, bool] | None = None, e: str = ""):
    """Gives back what it is given."""
    return {"a": a, "b": b, "c": c, "d": d, "e": e}


def result_of(function, **given):
    return execute(collect([function]), ToolCall(function.__name__, given, ""))


def test_a_call():
    result = result_of(get_weather, city="Oslo", days=[1, 2])
    assert (result.value, result.error) == ("Oslo: 21 celsius, [1, 2]", None)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"a": -3, "b": 2, "c": [1], "d": {"x": True}, "e": "<turn|>"},
        {"b": 2.5, "c": None, "d": None},
        {"c": [], "d": {}},
    ],
)
def test_arguments_that_fit(given):
    result = result_of(takes, **given)
    assert result.error is None
    assert result.value == {**takes(), **given}


def test_a_whole_number_is_an_integer():
    value = result_of(takes, a=2.0).value["a"]
    assert (value, type(value)) == (2, int)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": "1"}, "takes: the argument 'a' is '1'; expected type integer"),
        ({"a": 1.5}, "takes: the argument 'a' is 1.5; expected type integer"),
        ({"a": True}, "takes: the argument 'a' is True; expected type integer"),
        ({"a": None}, "takes: the argument 'a' is None; expected type integer"),
        ({"b": "x"}, "takes: the argument 'b' is 'x'; expected type number"),
        ({"b": True}, "takes: the argument 'b' is True; expected type number"),
        ({"c": 1}, "takes: the argument 'c' is 1; expected type array"),
        ({"c": [1, "2"]}, "takes: the argument 'c'[1] is '2'; expected type integer"),
        ({"d": {"x": 1}}, "takes: the argument 'd'['x'] is 1; expected type boolean"),
        ({"f": 1}, "takes: no argument has the name 'f'; there are: a, b, c, d, e"),
    ],
)
def test_arguments_that_do_not_fit(given, message):
    result = result_of(takes, **given)
    assert isinstance(result.error, gemmule.ToolCallError)
    assert result.value == {"error": message}


def test_other_calls_that_cannot_be_made():
    tools = collect([get_weather, described("g")])

    def told(call):
        result = execute(tools, call)
        assert isinstance(result.error, gemmule.ToolCallError)
        return result.value["error"]

    assert told(ToolCall("get_weather", {}, "")) == "get_weather: the argument 'city' is missing"
    assert told(ToolCall("get_weather", {"city": "x", "unit": "k"}, "")).endswith("one of 'celsius', 'fahrenheit'")
    assert told(ToolCall("nothing", {}, "")) == "no tool has the name 'nothing'; there are: get_weather"
    assert told(ToolCall("g", {}, "")) == "no tool has the name 'g'; there are: get_weather"
    assert told(MalformedToolCall("call", "because")) == "this is no call of a tool: because"


class WordlessError(Exception):
    def __str__(self):
        raise RuntimeError


def test_functions_that_fail():
    def raises(x: int):
        raise KeyError("no such thing")

    def gives_an_object(x: int):
        return object()

    def gives_nan(x: int):
        return math.nan

    def raises_without_words(x: int):
        raise WordlessError

    def stops(x: int):
        raise KeyboardInterrupt

    result = result_of(raises, x=1)
    assert (result.value, type(result.error)) == ({"error": "KeyError: 'no such thing'"}, KeyError)
    for function in (gives_an_object, gives_nan):
        result = result_of(function, x=1)
        assert isinstance(result.error, gemmule.ArgumentError)
        assert "not plain data" in result.value["error"]
    assert result_of(raises_without_words, x=1).value == {"error": "WordlessError: no text"}
    with pytest.raises(KeyboardInterrupt):
        result_of(stops, x=1)


@pytest.mark.parametrize(("levels", "fits"), [(80, True), (81, False), (400, False)])
def test_results_of_many_levels(levels, fits):
    def nests(x: int):
        return functools.reduce(lambda value, _: [value], range(levels), x)

    result = result_of(nests, x=1)
    assert (result.error is None) == fits
    assert fits or "more than 80 deep" in result.value["error"]
