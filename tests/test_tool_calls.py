"""The syntax of Gemma 4's tool calls: what is read from it, and that what is none says why."""

import pytest

from gemmule.text.tool_calls import QUOTE, MalformedToolCall, ToolCall, read_call

WHOLE = 'call:book{days:[1,2],name:<|"|>Ann, {x}<|"|>,opts:{deep:{on:true},none:null},price:-2.5e1}'
ARGUMENTS = {"days": [1, 2], "name": "Ann, {x}", "opts": {"deep": {"on": True}, "none": None}, "price": -25.0}


def read(text):
    return read_call(text.split(QUOTE))


def test_a_whole_call():
    assert read(WHOLE) == ToolCall("book", ARGUMENTS, WHOLE)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("12", 12),
        ("-7", -7),
        ("2.0", 2.0),
        ("1e3", 1000.0),
        ("1E-2", 0.01),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("[]", []),
        ("{}", {}),
        ("[[1],[]]", [[1], []]),
        ('<|"|><|"|>', ""),
        ('<|"|> a:"b",]} <|"|>', ' a:"b",]} '),
        ('<|"|>true<|"|>', "true"),
        ('[<|"|>a<|"|>,<|"|>b<|"|>]', ["a", "b"]),
        ("{first name:1}", {"first name": 1}),
        ('{<|"|>a:b<|"|>:1}', {"a:b": 1}),
    ],
)
def test_values(written, value):
    for space in ("", " ", "\n"):
        call = read(f"call:f{{x{space}:{space}{written}{space}}}{space}")
        assert isinstance(call, ToolCall), call
        assert call.arguments == {"x": value}
        assert type(call.arguments["x"]) is type(value)


@pytest.mark.parametrize(
    ("written", "name", "reason"),
    [
        ("", None, 'expected "call"; found the end'),
        ("f{}", None, 'expected "call"; found "f"'),
        ("call:f", "f", 'expected "{"; found the end'),
        ("call:{}", None, 'expected a tool\'s name; found "{"'),
        ("call:get weather{}", None, 'expected a tool\'s name; found "get weather"'),
        ('call:<|"|>f<|"|>{}', None, "expected a tool's name"),
        ("call:f{x}", "f", 'expected ":"; found "}"'),
        ("call:f{:1}", "f", 'expected a key; found ":"'),
        ("call:f{x:}", "f", 'expected a value; found "}"'),
        ("call:f{x:1", "f", 'expected "," or "}"; found the end'),
        ("call:f{x:1,}", "f", 'expected a key; found "}"'),
        ("call:f{x:[1,]}", "f", 'expected a value; found "]"'),
        ("call:f{x:[1}", "f", 'expected "," or "]"; found "}"'),
        ("call:f{x:1}}", "f", 'expected nothing more; found "}"'),
        ("call:f{x:1} done", "f", 'expected nothing more; found "done"'),
        ("call:f{x:Paris}", "f", 'expected a value; found "Paris"'),
        ('call:f{x:"Paris"}', "f", 'expected a value; found ""Paris""'),
        ("call:f{x:007}", "f", 'expected a value; found "007"'),
        ("call:f{x:1.}", "f", 'expected a value; found "1."'),
        ("call:f{x:\N{ARABIC-INDIC DIGIT ONE}}", "f", "expected a value"),
        ("call:f{x:1e999}", "f", 'expected a value; found "1e999"'),
        ("call:f{x:nan}", "f", 'expected a value; found "nan"'),
        ("call:f{x:1,x:2}", "f", 'the key "x" comes twice'),
        ('call:f{x:<|"|>a}', "f", "a string has no end"),
        ('call:f{x:<|"|>a<|"|><|"|>b<|"|>}', "f", 'expected "," or "}"'),
        ("call:f{x:" + "[" * 100 + "]" * 100 + "}", "f", "more than 64 deep"),
        ("call:f{x:" + "9" * 5000 + "}", "f", "expected a value"),
    ],
)
def test_what_is_no_call_says_why(written, name, reason):
    call = read(written)
    assert isinstance(call, MalformedToolCall)
    assert reason in call.reason
    assert (call.name, call.raw) == (name, written)


def test_every_beginning_is_malformed():
    for length in range(len(WHOLE)):
        assert isinstance(read(WHOLE[:length]), MalformedToolCall), WHOLE[:length]


def test_depth_that_is_allowed():
    assert isinstance(read("call:f{x:" + "[" * 63 + "]" * 63 + "}"), ToolCall)
    assert isinstance(read("call:f{x:" + "[" * 64 + "]" * 64 + "}"), MalformedToolCall)
