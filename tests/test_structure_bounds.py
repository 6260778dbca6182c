"""What a schema or a grammar must not ask of llguidance is refused before it is asked."""

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

import gemmule
from gemmule.generation.structure import Structure

LARGEST = 2**53 - 1


def asked(**structure: Any) -> Structure:
    return Structure.asked(**{"schema": None, "regex": None, "grammar": None, **structure})


def nested(levels: int, schema: Any = None) -> dict[str, Any]:
    schema = schema or {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def chain(references: int) -> dict[str, Any]:
    """Definitions that each need the next one, in 7 levels."""
    names = [f"a{place}" for place in range(references)]
    maybe = [{"anyOf": [{"type": "null"}, {"$ref": f"#/$defs/{name}"}]} for name in names[1:]] + [{"type": "null"}]
    made = {
        name: {"type": "object", "properties": {"x": value}, "required": ["x"]}
        for name, value in zip(names, maybe, strict=True)
    }
    return {"$ref": "#/$defs/a0", "$defs": made}


def chain_of_arrays() -> dict[str, Any]:
    """9 definitions in 98 levels: what takes most of the stack."""
    made = {f"a{place}": nested(96, {"$ref": f"#/$defs/a{place + 1}"}) for place in range(8)}
    return {"$ref": "#/$defs/a0", "$defs": made | {"a8": {}}}


REFUSED = {
    "least": ({"minimum": -(2**63)}, "minimum is -9.22"),
    "most": ({"maximum": LARGEST + 1}, r"maximum is 9007199254740992; expected at most 2\^53 - 1"),
    "exclusive": ({"exclusiveMinimum": 10**30}, "exclusiveMinimum is 1e"),
    "float": ({"exclusiveMaximum": -1e308}, "exclusiveMaximum is -1e"),
    "const": ({"const": -(2**63)}, "const is -9.22"),
    "enum": ({"enum": [1, [10**400]]}, "enum is inf"),
    "items": ({"type": "array", "minItems": 2**64}, "minItems is 1.84"),
    "within": ({"$defs": {"a": {"anyOf": [{"maximum": 2**60}]}}}, "maximum is 1.15"),
    "multiple": ({"multipleOf": 30011}, "multipleOf is 30011; .* at most 30000"),
    "fraction": ({"multipleOf": 99.9999}, "multipleOf is 99.99"),
    "tiny": ({"multipleOf": 1e-9}, "multipleOf is 1"),
    "least float": ({"multipleOf": 5e-324}, "multipleOf is 4.9"),
    "joined": ({"allOf": [{"multipleOf": 211}, {"multipleOf": 223}]}, "multipleOf is 211, 223"),
    "decimals": ({"allOf": [{"multipleOf": 30000}, {"multipleOf": 0.1}]}, "multipleOf is 0.1"),
    "deep": (nested(121), "121 levels of brackets; expected at most 120"),
    "deeper": (nested(600), "600 levels of brackets"),
    "chain": (chain(142), "142 references and 7 levels of brackets"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    schema, message = REFUSED[name]
    with pytest.raises(gemmule.ArgumentError, match=f"^schema: {message}") as caught:
        asked(schema=schema)
    assert caught.value.remedy
    with pytest.raises(gemmule.ArgumentError, match=f"^grammar: %json: {message}"):
        asked(grammar=f'start: "a" %json\n {json.dumps(schema)} /b/')


@pytest.mark.parametrize("levels", [5_000, 200_000])
def test_refuses_what_is_too_deep_for_python(levels):
    with pytest.raises(gemmule.ArgumentError, match=r"levels of brackets|recursion"):
        asked(grammar="start: %json " + '{"items":' * levels + "{}" + "}" * levels)


def test_refuses_many_rules():
    grammar = "start: a0\n" + "".join(f'a{place}: a{place + 1} "x"\n' for place in range(1000)) + "a1000: /b/"
    with pytest.raises(gemmule.ArgumentError, match=r"^grammar: it has 1002 rules and brackets; expected at most 1000"):
        asked(grammar=grammar)


def test_leaves_bad_json_to_llguidance():
    for bad in ("{", "", '{"multipleOf": NaN}', "{} %json {"):
        assert asked(grammar=f"start: %json {bad}").kind == "grammar"


@pytest.mark.parametrize("structure", [{"regex": "a\ud800"}, {"grammar": '"\ud800"'}], ids=str)
def test_refuses_half_a_character(structure):
    with pytest.raises(gemmule.ArgumentError, match="no Unicode at character 1: half of a surrogate pair"):
        asked(**structure)
    with pytest.raises(gemmule.ArgumentError, match=r"schema is no JSON: .*surrogates"):
        asked(schema={"const": "\ud800"})


@pytest.fixture(scope="module")
def fairy():
    pytest.importorskip("llguidance")
    return gemmule.load("fairy", threads=1)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": LARGEST, "maximum": LARGEST},
        {"type": "integer", "exclusiveMinimum": -LARGEST, "maximum": 1 - LARGEST},
        {"type": "integer", "minimum": 1 - LARGEST, "exclusiveMaximum": 2 - LARGEST},
        {"const": -LARGEST},
        {"enum": [[LARGEST]]},
    ],
    ids=str,
)
def test_answers_at_the_bounds(fairy, schema):
    parsed = fairy.generate("A", schema=schema, max_tokens=40, seed=1).parsed
    assert parsed in (LARGEST, -LARGEST, 1 - LARGEST, [LARGEST])


@pytest.mark.parametrize("multiples", [[29989], [0.01, 1000], [30, 70, 110], [1e-8]], ids=str)
def test_multiples_at_the_bounds(fairy, multiples):
    schema = {"type": "number", "minimum": 1, "maximum": 99999, "allOf": [{"multipleOf": each} for each in multiples]}
    for seed in range(5):
        text = fairy.generate("A", schema=schema, max_tokens=60, seed=seed).text
        assert all(Decimal(text) % Decimal(str(each)) == 0 for each in multiples), text


def test_depths_at_the_bounds(fairy):
    for schema in (nested(120), chain(141), chain_of_arrays()):
        assert fairy.generate("A", schema=schema, max_tokens=1).tokens
        assert fairy.generate("A", grammar=f"start: %json {json.dumps(schema)}", max_tokens=1).tokens


ENDLESS = [
    {"grammar": "start: /b+/ start"},
    {"grammar": "start: /b*/ start // and so on"},
    {"grammar": "start: a+\na: /b+/ a"},
    {"grammar": 'start: /b+/ "b" "c"'},
    {"grammar": '%llguidance {"no_forcing": false}\nstart: %lark {\nstart: /b+/ start\n}'},
    {"schema": {"x-guidance": {"item_separator": "1+"}, "type": "array", "items": {"const": 1}, "minItems": 3}},
]


def test_what_never_ends():
    """As many tokens as are asked for. In a process of its own, as llguidance looks at no signal."""
    pytest.importorskip("llguidance")
    script = (
        "import json, sys, gemmule\n"
        "model = gemmule.load('fairy', threads=1)\n"
        "for options in json.loads(sys.argv[1]):\n"
        "    result = model.generate('Say', max_tokens=8, temperature=0, **options)\n"
        "    print(result.finish_reason, set(result.text))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(ENDLESS)], capture_output=True, text=True, timeout=20
    )
    said = done.stdout.splitlines()
    assert said[:-1] == ["length {'b'}"] * (len(ENDLESS) - 1), done.stderr
    assert said[-1].startswith("length")
