"""What tokens say: answers, thoughts and calls told apart by the control tokens between them, and by nothing else."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gemmule
from fakes import TOKENIZER, TURN_END
from gemmule.text.answer import AnswerStream, Marks, Said
from gemmule.text.text_stream import TextStream
from gemmule.text.tool_calls import MalformedToolCall, ToolCall

TOKENS = gemmule.Tokenizer.from_pretrained(TOKENIZER)
MARKS = Marks.of(TOKENS)
CALL = '<|tool_call>call:f{a:<|"|>x € y<|"|>,b:[1,{c:true}]}<tool_call|>'


def ids_of(text, **options):
    return TOKENS.encode(text, add_special_tokens=False, **options)


def said(ids, **options):
    """What each token says, and then the end."""
    stream = AnswerStream(TOKENS, marks=MARKS, **options)
    return [*(stream.push(id) for id in ids), stream.finish()]


def whole(text_or_ids, **options):
    ids = ids_of(text_or_ids) if isinstance(text_or_ids, str) else text_or_ids
    return sum(said(ids, **options), Said())


def test_parts():
    answer = whole(f"<|channel>thought\nHm, €?\n<channel|>Let me see.{CALL}{CALL}Done.<turn|>")
    assert answer.thinking == "Hm, €?"
    assert answer.text == "Let me see.Done."
    assert [call.arguments for call in answer.tool_calls] == [{"a": "x € y", "b": [1, {"c": True}]}] * 2


def test_every_token_says_what_is_certain_then():
    ids = ids_of(f"<|channel>thought\nab<channel|>cd{CALL}ef")
    pieces = said(ids)
    place = {id: place for place, id in enumerate(ids)}
    assert pieces[place[MARKS.call_end]].tool_calls
    assert not any(piece.tool_calls for piece in pieces[: place[MARKS.call_end]])
    assert "".join(piece.thinking for piece in pieces[: place[MARKS.channel_end]]) == "ab"
    assert not any(piece.text for piece in pieces[: place[MARKS.channel_end]])


@pytest.mark.parametrize(
    ("written", "thinking", "text"),
    [
        ("<|channel>thought\n<channel|>Yes.", "", "Yes."),
        ("<|channel>thought\nab\n<channel|>Yes.", "ab", "Yes."),
        ("<|channel>thought\nab\n\n<channel|>Yes.", "ab\n", "Yes."),
        ("<|channel>thought\n\nab<channel|>Yes.", "\nab", "Yes."),
        ("<|channel>thought<channel|>Yes.", "", "Yes."),
        ("<|channel>tho<channel|>Yes.", "tho", "Yes."),
        ("<|channel>thoughtful\nab<channel|>Yes.", "thoughtful\nab", "Yes."),
        ("<|channel>other\nab<channel|>Yes.", "other\nab", "Yes."),
        ("<|channel>thought\nab", "ab", ""),
        ("<|channel>thought\nab\n", "ab", ""),
        ("<|channel>thought\nab<turn|>", "ab", ""),
        ("<|channel>thought\na<|channel>thought\nb<channel|>c", "ab", "c"),
        ("<|channel>thought\na<channel|>b<|channel>thought\nc<channel|>d", "ac", "bd"),
        ("<channel|>Yes.<tool_call|>", "", "Yes."),
        ('<|"|>Yes.<|tool_response>', "", "Yes."),
        ("thought\nYes.", "", "thought\nYes."),
    ],
)
def test_thoughts(written, thinking, text):
    assert whole(written) == Said(text, thinking)


@pytest.mark.parametrize(
    "mark", ["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>', "<|tool_response>"]
)
def test_marks_in_ordinary_tokens_are_text(mark):
    text = f"a{mark}thought\nb{mark}c"
    assert whole(ids_of(text, parse_special=False)) == Said(text)
    call = [
        MARKS.call,
        *ids_of("call:f{x:"),
        MARKS.quote,
        *ids_of(text, parse_special=False),
        MARKS.quote,
        *ids_of("}"),
    ]
    (read,) = whole([*call, MARKS.call_end]).tool_calls
    assert read.arguments == {"x": text}


@pytest.mark.parametrize(
    ("written", "kinds", "text"),
    [
        (f"{CALL[:-12]}<turn|>", [ToolCall], ""),  # whole without the mark of its end
        (f"{CALL[:-12]}{CALL}", [ToolCall, ToolCall], ""),
        (f"{CALL[:-12]}<|channel>thought\nb<channel|>c", [ToolCall], "c"),
        (f"{CALL[:-12]}<channel|><tool_call|>a", [ToolCall], "a"),
        ("<|tool_call><tool_call|>a", [MalformedToolCall], "a"),
        (f"<|tool_call>{CALL}a", [MalformedToolCall, ToolCall], "a"),
        (f"<|channel>thought\na{CALL}b", [ToolCall], "b"),
    ],
)
def test_marks_that_are_missing_or_too_many(written, kinds, text):
    answer = whole(written)
    assert [type(call) for call in answer.tool_calls] == kinds
    assert answer.text == text


def test_a_call_cut_anywhere():
    """Each beginning is one call, malformed until its last brace is there."""
    ids = ids_of(CALL)
    for length in range(1, len(ids)):
        (call,) = whole(ids[:length]).tool_calls
        whole_one = length >= len(ids) - 1
        assert isinstance(call, ToolCall if whole_one else MalformedToolCall), TOKENS.decode(ids[:length])
        assert call.raw == TOKENS.decode(ids[1:length])
        assert not whole(ids[:length]).text


def test_a_call_without_one_of_its_tokens():
    """Whatever is missing, it is one call or none, and nothing is raised."""
    ids = ids_of(CALL)
    for place in range(1, len(ids) - 1):
        (call,) = whole([*ids[:place], *ids[place + 1 :]]).tool_calls
        assert isinstance(call, (ToolCall, MalformedToolCall))


def test_stop_strings_are_looked_for_in_the_answer():
    written = f"<|channel>thought\nstop<channel|>a{CALL.replace('x', 'stop')}b stop c"
    stream = AnswerStream(TOKENS, ["stop"], MARKS)
    answer = Said()
    for id in ids_of(written):
        answer += stream.push(id)
        if stream.stopped:
            break
    assert (answer.text, answer.thinking) == ("ab ", "stop")
    assert answer.tool_calls[0].arguments["a"] == "stop € y"


def test_without_marks_everything_is_the_answer():
    ids = ids_of(f"<|channel>thought\na<channel|>b{CALL}")
    stream, plain = AnswerStream(TOKENS), TextStream(TOKENS)
    texts = [stream.push(id).text for id in ids] + [stream.finish().text]
    assert texts == [*(plain.push(id) for id in ids), plain.finish()]


def test_budget():
    stream = AnswerStream(TOKENS, marks=MARKS, thought_tokens=3)
    name, thought = ids_of("<|channel>thought\n"), ids_of("abcdef")
    for id in [*name, *thought[:3]]:
        assert stream.forced is None
        stream.push(id)
    assert stream.forced == MARKS.channel_end
    stream.push(MARKS.channel_end)
    assert stream.forced is None
    stream.push(MARKS.channel)  # a second thought has none left
    assert stream.forced == MARKS.channel_end


def test_any_tokens():
    """Random ones, most of them marks: nothing is raised, and no text appears or is lost outside of calls."""
    numbers = random.Random(1)
    euro = ids_of("€")
    marks = [MARKS.channel, MARKS.channel_end, MARKS.call, MARKS.call_end, MARKS.quote, MARKS.response, TURN_END]
    for _ in range(500):
        choices = [*marks, *euro, *ids_of("call:f{a:1}thought\n"), numbers.randrange(700)]
        ids = [numbers.choice(choices) for _ in range(numbers.randrange(40))]
        answer = whole(ids)
        if MARKS.call not in ids and MARKS.channel not in ids:
            assert answer == Said(TOKENS.decode(ids, skip_special_tokens=True))
        for call in answer.tool_calls:
            assert isinstance(call, (ToolCall, MalformedToolCall))


@pytest.mark.parametrize("change", [{"content": "<|other>"}, {"special": False}])
def test_a_tokenizer_without_a_mark(tmp_path, change):
    content = json.loads((TOKENIZER / "tokenizer.json").read_text())
    next(token for token in content["added_tokens"] if token["content"] == "<|channel>").update(change)
    if "content" in change:
        content["model"]["vocab"] = {
            change["content"] if text == "<|channel>" else text: id for text, id in content["model"]["vocab"].items()
        }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert Marks.of(gemmule.Tokenizer.from_pretrained(tmp_path)) is None


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"))  # which is a space to tokenizers
KEYS = WORDS.filter(lambda key: key and key.strip() == key and not set(key) & set("{}[]:,"))  # written without quotes
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(KEYS, values, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_the_template_writes_is_read_again(arguments):
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    ids = TOKENS.encode_messages(messages)
    (read,) = whole(ids[ids.index(MARKS.call) :]).tool_calls
    assert isinstance(read, ToolCall), read
    assert read.arguments == arguments
    assert types_of(read.arguments) == types_of(arguments)


def types_of(value):
    """The types in a value: True is not 1, and 1.0 is not 1."""
    if isinstance(value, dict):
        return {key: types_of(each) for key, each in value.items()}
    return [types_of(each) for each in value] if isinstance(value, list) else type(value)
