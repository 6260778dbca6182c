"""Answers of a certain structure: they fit whatever the model would rather say."""

import json
import math
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gemmule
from fakes import TOKENIZER, TURN_END, fake_model
from gemmule.generation.structure import Structure

pytest.importorskip("llguidance")


@pytest.fixture(scope="module")
def fairy():
    return gemmule.load("fairy", threads=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fake model's, whose answers end with TURN_END."""
    folder = tmp_path_factory.mktemp("checkpoint")
    shutil.copytree(TOKENIZER, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"eos_token_id": TURN_END}))
    return folder


def fits(schema: Any, value: Any) -> bool:
    """JSON schema, as far as these tests use it."""
    kinds = {"integer": int, "number": (int, float), "string": str, "boolean": bool, "null": type(None)}
    kinds |= {"array": list, "object": dict}
    if "anyOf" in schema:
        return any(fits(each, value) for each in schema["anyOf"])
    if "enum" in schema:
        return any(type(each) is type(value) and each == value for each in schema["enum"])
    kind = schema["type"]
    if not isinstance(value, kinds[kind]) or (kind in ("integer", "number") and isinstance(value, bool)):
        return False
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
    if isinstance(value, str):
        in_length = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
        return in_length and re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list):
        in_length = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf)
        return in_length and all(fits(schema["items"], each) for each in value)
    if isinstance(value, dict):
        known = schema["properties"]
        return (
            all(name in value for name in schema.get("required", []))
            and value.keys() <= known.keys()
            and all(fits(known[name], each) for name, each in value.items())
        )
    return True


def an_object(required: bool = True, **properties: Any) -> dict[str, Any]:
    said = {"type": "object", "properties": properties, "additionalProperties": False}
    return said | ({"required": list(properties)} if required else {})


TEXT = {"type": "string", "maxLength": 12}
AGE = {"type": "integer", "minimum": 0, "maximum": 150}
SCHEMAS = {
    "flat": an_object(name=TEXT, age=AGE, alive={"type": "boolean"}),
    "nested": an_object(who=an_object(name=TEXT), where=an_object(place=TEXT, x={"type": "null"})),
    "list": {"type": "array", "items": an_object(n=AGE, name=TEXT), "minItems": 2, "maxItems": 3},
    "optional": an_object(False, a=AGE, b=TEXT),
    "any": {"anyOf": [AGE, TEXT, {"type": "null"}]},
    "enum": {"enum": ["fox", 'a "king"', 7, None, True]},
    "pattern": an_object(id={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}),
    "unicode": an_object(**{"größe €": AGE, "名": {"enum": ["狐", "🦊", "König\\n"]}}),
    "negative": {"type": "integer", "minimum": -1500, "maximum": -20},
}


# Schemas


@pytest.mark.parametrize("name", SCHEMAS)
def test_answers_fit_the_schema(fairy, name):
    stopped = 0
    for seed in range(25):
        result = fairy.generate("Once upon a time", schema=SCHEMAS[name], temperature=1.0, seed=seed, max_tokens=600)
        if result.finish_reason == "stop":
            stopped += 1
            assert result.parsed == json.loads(result.text)
            assert fits(SCHEMAS[name], result.parsed), result.text
        else:
            assert result.parsed is None
            assert len(result.tokens) == 600
    assert stopped >= 24


def test_wild_answers_fit_the_schema(fairy):
    """Every allowed token is about as likely as any other: bytes, odd characters, escapes."""
    bytes_seen = set()
    for seed in range(40):
        result = fairy.generate("x", schema=SCHEMAS["flat"], temperature=50.0, top_k=0, top_p=1.0, seed=seed)
        assert result.finish_reason == "stop"
        assert fits(SCHEMAS["flat"], json.loads(result.text)), result.text
        bytes_seen |= {id for id in result.tokens if fairy.tokenizer.is_byte(id)}
    assert len(bytes_seen) > 20
    assert any(id >= fairy.tokenizer._core.find("<0x80>") for id in bytes_seen)  # parts of characters


@st.composite
def schemas(draw, depth=2):
    names = st.lists(st.text('abcé狐" \\', min_size=1, max_size=4), unique=True, max_size=3)
    kind = draw(st.integers(0, 7 if depth else 4))
    if kind == 0:
        low, span = draw(st.integers(-200, 200)), draw(st.integers(0, 2000))
        return {"type": "integer", "minimum": low, "maximum": low + span}
    if kind == 1:
        shortest = draw(st.integers(0, 3))
        return {"type": "string", "minLength": shortest, "maxLength": shortest + draw(st.integers(0, 9))}
    if kind == 2:
        scalars = st.one_of(st.integers(-99, 99), st.text(max_size=5), st.booleans(), st.none())
        return {"enum": draw(st.lists(scalars, min_size=1, max_size=4, unique_by=repr))}
    if kind == 3:
        return {"type": draw(st.sampled_from(["boolean", "null"]))}
    if kind == 4:
        return {"type": "string", "pattern": draw(st.sampled_from(["^[a-c]{1,4}$", "^(ja|nein)$", "^é?x{2}$"]))}
    if kind == 5:
        least = draw(st.integers(0, 2))
        items = draw(schemas(depth - 1))
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + draw(st.integers(0, 2))}
    if kind == 6:
        return {"anyOf": draw(st.lists(schemas(depth - 1), min_size=1, max_size=3))}
    properties = {name: draw(schemas(depth - 1)) for name in draw(names)}
    required = [name for name in properties if draw(st.booleans())]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


@settings(database=None, deadline=None, max_examples=60)
@given(schema=schemas(), seed=st.integers(0, 2**64 - 1), temperature=st.sampled_from([0.0, 1.0, 30.0]))
def test_any_schema(fairy, schema, seed, temperature):
    result = fairy.generate("A king", schema=schema, seed=seed, temperature=temperature, max_tokens=400)
    if result.finish_reason == "stop":
        assert fits(schema, json.loads(result.text)), result.text
    else:
        assert temperature == 0.0  # a greedy model may say one thing again and again
        assert len(result.tokens) == 400


def test_texts_of_any_characters(folder):
    """The likeliest token is always one of these bytes: what is not UTF-8, or ends the string early, is not chosen."""
    for byte in (0x00, 0x0A, 0x1F, 0x22, 0x5C, 0x7F, 0x80, 0xBF, 0xC0, 0xE2, 0xED, 0xF0, 0xF5, 0xFF):
        model = fake_model(folder, lambda ids, byte=byte: 6 + byte)
        for seed in range(4):
            options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": seed}
            result = model.generate([2], schema={"type": "string", "maxLength": 8}, **options)
            assert result.finish_reason == "stop"
            assert len(json.loads(result.text)) <= 8


def test_blanks_have_an_end(fairy):
    """A model that likes blanks still comes to an end."""
    blanks = {fairy.tokenizer._core.find(text): 30.0 for text in ("\N{LOWER ONE EIGHTH BLOCK}", "\n")}
    result = fairy.generate("x", schema=SCHEMAS["flat"], logit_bias=blanks, temperature=0, max_tokens=400)
    assert result.finish_reason == "stop"
    assert "\n" + 16 * " " in result.text
    assert "\n" + 17 * " " not in result.text


# Dataclasses


@dataclass
class Friend:
    name: Literal["fox", "hen", "crow"]
    years: int


@dataclass
class King:
    titles: tuple[Literal["great", "old"], Literal["king"]]
    alive: bool
    friend: Friend | None
    friends: list[Friend] = field(default_factory=list)


def test_a_dataclass(fairy):
    kings = [fairy.generate("A king", schema=King, temperature=9.0, seed=seed, max_tokens=900) for seed in range(20)]
    assert {result.finish_reason for result in kings} == {"stop"}
    for result in kings:
        assert isinstance(result.parsed, King)
        assert result.parsed is result.parsed
        assert result.parsed.titles[1] == "king"
        assert all(type(each) is Friend and isinstance(each.years, int) for each in result.parsed.friends)
        assert json.loads(result.text)["titles"] == list(result.parsed.titles)
    assert len({type(result.parsed.friend) for result in kings}) == 2


def test_a_dataclass_that_raises(fairy):
    @dataclass
    class Never:
        truth: bool

        def __post_init__(self):
            raise KeyError("never")

    result = fairy.generate("x", schema=Never, seed=1)
    assert result.text
    with pytest.raises(KeyError, match="never"):
        _ = result.parsed


def test_what_was_cut_off_is_not_parsed(fairy):
    options = {"schema": {"type": "string", "minLength": 50}, "temperature": 1.0, "seed": 3}
    result = fairy.generate("A", **options, max_tokens=4)
    assert result.finish_reason == "length"
    assert result.parsed is None
    assert result.text
    assert "parsed" not in repr(result)
    assert fairy.generate("A", max_tokens=2).parsed is None


def test_parsing_has_no_limits_of_its_own():
    long = Structure.asked(schema={}, regex=None, grammar=None)
    assert long.parse("[" + "9" * 5000 + "]") == [10**5000 - 1]
    assert long.parse("-3") == -3
    assert Structure.asked(schema=None, regex="a", grammar=None).parse("a") is None


# Regular expressions and grammars


@pytest.mark.parametrize(
    "regex",
    [
        "yes|no",
        r"[0-9]{3}-[a-f]{4}",
        r"(\w+ ){3}\w+\.",
        'a/b\\\\[c"]{2,5}',
        "[äöü€🙂]{1,6}",
        "",
        "(ab){0,3}",
        "[가-힣]{3}",
        "[^a-z]{5}",
    ],
)
def test_answers_match_the_regular_expression(fairy, regex):
    for seed in range(20):
        result = fairy.generate("Say", regex=regex, temperature=2.0, seed=seed, max_tokens=300)
        assert result.parsed is None
        if result.finish_reason == "stop":
            assert re.fullmatch(regex, result.text), result.text
        assert result.finish_reason == "stop" or regex == r"(\w+ ){3}\w+\."


def test_answers_match_the_grammar(fairy):
    grammar = """
        start: sum
        sum: product (" + " product)?
        product: number (" * " number)? | "(" number " + " number ")"
        number: /[1-9][0-9]?/
    """
    values = set()
    for seed in range(20):
        result = fairy.generate("1 + 1", grammar=grammar, temperature=2.0, seed=seed, max_tokens=60)
        assert result.finish_reason == "stop"
        assert re.fullmatch(r"[0-9+* ()]+", result.text)
        values.add(eval(result.text))
    assert len(values) > 5


def test_a_grammar_that_holds_a_schema(fairy):
    grammar = 'start: "call:" %json {"enum": ["a", "b"]} "!"'
    assert fairy.generate("x", grammar=grammar, seed=1).text in ('call:"a"!', 'call:"b"!')


# Where an answer ends


def test_the_end_is_free_where_the_answer_fits(folder):
    """A model that wants to end may, as soon as the answer fits and no earlier; one that does not goes on."""
    ending = fake_model(folder, lambda ids: TURN_END)
    result = ending.generate([2], regex="a{3,9}", temperature=0)
    assert (result.text, result.tokens[-1], result.finish_reason) == ("aaa", TURN_END, "stop")
    letter = ending.tokenizer._core.find("a")
    going_on = fake_model(folder, lambda ids: letter)
    result = going_on.generate([2], regex="a{3,9}", temperature=0)
    assert (result.text, result.tokens, result.finish_reason) == ("a" * 9, [letter] * 9, "stop")  # nothing may follow


def test_the_last_token_that_fits_completes_the_answer(folder):
    result = fake_model(folder, lambda ids: TURN_END).generate([2], regex="a{3}", max_tokens=3, temperature=0)
    assert (result.text, result.finish_reason) == ("aaa", "stop")


def test_without_end_tokens(tmp_path):
    shutil.copytree(TOKENIZER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text("{}")
    model = fake_model(tmp_path, lambda ids: TURN_END)
    result = model.generate([2], regex="(aaa)?x", temperature=0)
    assert (result.text, result.finish_reason) == ("aaax", "stop")
    assert TURN_END not in result.tokens


def test_an_end_token_with_text_is_none_here(tmp_path):
    """Its text would be a part of the answer."""
    shutil.copytree(TOKENIZER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [300, TURN_END]}))
    model = fake_model(tmp_path, lambda ids: 300)
    assert model.tokenizer.decode([300]) == "b"
    result = model.generate([2], regex="a{1,4}", temperature=0)
    assert set(result.text) == {"a"}


def test_control_tokens_are_never_in_an_answer(fairy):
    control = fairy.tokenizer._core.control_tokens
    wanted = dict.fromkeys([id for id in control if id not in fairy._defaults.end_tokens], 1000.0)
    result = fairy.generate("x", regex="(?s:.{5,10})", logit_bias=wanted, seed=1)
    assert not set(result.tokens[:-1]) & set(control)
    assert 5 <= len(result.text) <= 10


def test_bytes_of_tokens_are_those_of_their_text(fairy):
    random = np.random.default_rng(0)
    tokenizer = fairy.tokenizer
    for _ in range(200):
        euro = (6 + np.frombuffer("é€🙂".encode(), np.uint8)).tolist()
        ids = [*random.integers(262, 4096, 12).tolist(), *euro, *random.integers(262, 4096, 12).tolist()]
        spelled = b"".join(map(tokenizer.spelled, ids))
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert spelled.decode() == text
    assert tokenizer.spelled(2) == tokenizer.spelled(9999) == b""


# Together with others


def test_batches_equal_singles(fairy):
    options = {"schema": SCHEMAS["list"], "temperature": 1.0, "seed": 4, "max_tokens": 120}
    prompts = ["A king", "Once upon a time", "A king", "7"]
    together = fairy.generate(prompts, **options)
    alone = [fairy.generate(prompt, **options) for prompt in prompts]
    assert [result.tokens for result in together] == [result.tokens for result in alone]
    assert [result.parsed for result in together] == [result.parsed for result in alone]
    assert together[0].tokens == together[2].tokens
    assert len({result.text for result in fairy.generate(["A king"] * 4, schema=SCHEMAS["list"])}) == 4


def test_drafts_change_nothing(fairy, monkeypatch):
    monkeypatch.setattr("gemmule.generation.draft_length.DraftLength.next", lambda _: 3)
    prompt = "The king and the fox and the king and the fox: "
    options = {"regex": r"(the fox |the king ){5,20}\.", "temperature": 1.0, "seed": 4, "top_logprobs": 2}
    drafted = fairy.generate(prompt, draft="prompt-lookup", **options)
    plain = fairy.generate(prompt, draft=None, **options)
    assert 0 < drafted.usage.accepted_tokens < drafted.usage.drafted_tokens
    assert (drafted.tokens, drafted.top_logprobs) == (plain.tokens, plain.top_logprobs)


def test_streams_equal_generate(fairy):
    options = {"schema": SCHEMAS["unicode"], "temperature": 1.0, "seed": 4}
    pieces = list(fairy.stream("A king", **options))
    result = fairy.generate("A king", **options, logprobs=True)
    assert "".join(piece.text for piece in pieces) == result.text
    assert [piece.logprob for piece in pieces] == result.logprobs
    assert pieces[-1].finish_reason == "stop"


def test_logprobs_are_the_models_own(fairy):
    result = fairy.generate("A king", regex="zz|qq", logprobs=True, seed=1)
    ids = fairy.tokenizer.encode("A king") + result.tokens
    own = fairy._new_decoder().score(np.array(ids, np.int32), len(ids) - len(result.tokens))
    assert result.logprobs == pytest.approx(own.tolist(), abs=1e-3)
    assert sum(result.logprobs) < -10


def test_chats(folder):
    chat = fake_model(folder, lambda ids: TURN_END, context=2000).chat()
    options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    first = chat.send("Hi", schema=Friend, seed=1, **options)
    assert isinstance(first.parsed, Friend)
    second = "".join(piece.text for piece in chat.stream("Hi", regex="yes|no", seed=2, **options))
    assert second in ("yes", "no")
    assert [message["content"] for message in chat.messages[1::2]] == [first.text, second]


def test_threads_share_a_model():
    model = gemmule.load("fairy", threads=1)
    barrier = threading.Barrier(4)

    def answer(seed):
        barrier.wait()
        return model.generate("A king", schema=SCHEMAS["flat"], seed=seed, temperature=1.0).text

    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(answer, range(4)))
    assert texts == [model.generate("A king", schema=SCHEMAS["flat"], seed=s, temperature=1.0).text for s in range(4)]


def test_masks_that_are_computed_ahead(fairy, monkeypatch):
    """While the model reads a token: the same answers, alone and in batches, and no thread is left."""
    options = {"regex": r"[A-Za-z ,;]{30,60}\.", "temperature": 1.0, "seed": 4}
    prompts = ["A king", "Once upon a time", "7"]
    want = [fairy.generate(prompt, **options).tokens for prompt in prompts]
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread), start(thread)))
    monkeypatch.setattr("gemmule.generation.grammar._SLOW_SECONDS", 0.0)
    assert [result.tokens for result in fairy.generate(prompts, **options)] == want
    assert [fairy.generate(prompt, **options).tokens for prompt in prompts] == want
    assert len(started) == 6  # one for each answer
    assert next(fairy.stream("A king", **options)).token == want[0][0]  # left at once
    for thread in started:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore")  # that a process with threads is forked
def test_a_fork_in_the_middle_of_an_answer(fairy, monkeypatch):
    """A mask that a thread of the parent computes never comes to the child, which says so. The next answer comes."""
    monkeypatch.setattr("gemmule.generation.grammar._SLOW_SECONDS", 0.0)
    options = {"regex": r"[A-Za-z ,;]{5,9}\.", "seed": 4}
    want = fairy.generate("A king", **options).text
    stream = fairy.stream("A king", **options)
    next(stream)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            next(stream)
        except gemmule.ResourceError as error:
            os.write(writer, f"{error.remedy} {fairy.generate('A king', **options).text}".encode())
        os._exit(0)
    os.close(writer)
    try:
        assert select.select([reader], [], [], 20)[0], "the child hangs"
        said = os.read(reader, 1000).decode()
        assert "spawn" in said
        assert said.endswith(want)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


def test_no_thread_to_compute_masks_ahead(fairy, monkeypatch):
    options = {"regex": r"[A-Za-z ,;]{30,60}\.", "temperature": 1.0, "seed": 4}
    want = fairy.generate("A king", **options).tokens

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("gemmule.generation.grammar._SLOW_SECONDS", 0.0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert fairy.generate("A king", **options).tokens == want


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schema": {"type": "integer", "minimum": 5, "maximum": 3}}, r"^schema: .*minimum \(5\) is greater"),
        ({"schema": {"allOf": [{"type": "string"}, {"type": "integer"}]}}, "^schema: .*incompatible types"),
        ({"schema": an_object(a={"enum": []})}, "^schema: .*'a' is unsatisfiable"),
        ({"schema": {"$ref": "#"}}, "^schema: nothing fits it"),
        ({"schema": {"type": "sttring"}}, "^schema: .*sttring"),
        ({"schema": {"not": {"type": "string"}}}, '^schema: .*"not"'),
        ({"schema": {"$ref": "http://localhost/x"}}, "^schema: .*localhost"),
        ({"schema": {"type": {1, 2}}}, "^schema is no JSON"),
        ({"schema": {"minimum": math.nan}}, "^schema is no JSON"),
        ({"schema": "object"}, "^schema is 'object'"),
        ({"schema": int}, "^schema is <class 'int'>"),
        ({"schema": Friend("fox", 3)}, "^schema is Friend"),
        ({"regex": "a("}, "(?s)^regex: .*unclosed group"),
        ({"regex": r"[^\s\S]"}, "^regex: nothing fits it"),
        ({"regex": 5}, "^regex is 5"),
        ({"grammar": "start: other"}, "^grammar: .*other"),
        ({"grammar": ""}, "^grammar: "),
        ({"grammar": "start: <turn>"}, "^grammar: it names a control token"),
        ({"grammar": 'start: p::0\np::_: "b" p::incr(_)'}, "^grammar: panic"),
        ({"grammar": "start: A\nA: B\nB: A"}, "^grammar: .*circular"),
        ({"schema": {"x-guidance": {"whitespace_pattern": "("}}}, "^schema: .*regex"),
        ({"grammar": "start: <[2]>"}, "^grammar: nothing fits it"),
        ({"grammar": b"start"}, "^grammar is b'start'"),
        ({"regex": "a", "schema": {}}, "^schema and regex are given"),
        ({"regex": "a", "grammar": "b", "schema": {}}, "^schema and regex and grammar are given"),
        ({"regex": "a", "stop": "b"}, "^stop and regex are given"),
        ({"schema": {}, "ignore_eos": True}, "^ignore_eos and schema are given"),
    ],
    ids=str,
)
def test_refuses(fairy, options, said):
    for call in (fairy.generate, fairy.stream, lambda prompt, **options: fairy.generate([prompt], **options)):
        with pytest.raises(gemmule.ArgumentError, match=said) as caught:
            call("A king", **options)
        assert all(part not in str(caught.value) for part in ("<state>", "<backtrace>", "no_forcing"))


def test_reasons_are_short(fairy):
    with pytest.raises(gemmule.ArgumentError, match=r"^regex: .*invalid regex") as caught:
        fairy.generate("x", regex="(" * 5000)
    assert len(str(caught.value)) < 600


def test_a_dead_end(fairy):
    """Where only a control token could go on."""
    with pytest.raises(gemmule.ArgumentError, match=r"no largest finite value.*\n.*grammar"):
        fairy.generate("x", grammar='start: "a" <[2]>')
    assert fairy.generate("x", regex="a").text == "a"


def test_without_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(gemmule.UnsupportedError, match="no tokenizer"):
        fake_model(tmp_path, lambda ids: 3).generate([2], regex="a")


def test_without_llguidance():
    script = (
        "import sys, gemmule\n"
        "sys.modules['llguidance'] = None\n"
        "model = gemmule.load('fairy')\n"
        "try: model.generate('x', regex='a')\n"
        "except gemmule.UnsupportedError as error: print(error)\n"
        "print(len(model.generate('x', max_tokens=3).tokens))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "regex= needs the package llguidance\npip install 'gemmule[structured]'\n3\n", done.stderr


def test_llguidance_is_imported_when_it_is_needed():
    script = (
        "import sys, gemmule; gemmule.load('fairy').generate('x', max_tokens=1); print('llguidance' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
