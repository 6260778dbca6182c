"""A saved chat that anything was done to, with checksums made right again: it is refused with the file's name, or it is
a chat that can be spoken to."""

import copy
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

import gemmule
from examples import drawing
from gemmule.errors import ArgumentError, ContextError, FormatError, GemmuleError
from hostile.chat_cases import model, whole, with_part, with_text, words_of

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["user", "static", "0" * 64, 0, 1, -1, 2**31, 2**62, 2**63, 10**300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def check(path, data: bytes) -> None:
    path.write_bytes(data)
    # Another model's file, and a context that is too short for it, are for the model to find.
    for read, kinds in (
        (gemmule.read_chat, (FormatError,)),
        (model().load_chat, (FormatError, ArgumentError, ContextError)),
    ):
        refusals = []
        try:
            found = read(path)
        except GemmuleError as error:
            refusals.append(error)
        for error in refusals:
            assert type(error) in kinds, repr(error)
            assert error.file == str(path)
            assert error.remedy
        if not refusals:
            assert found.messages == words_of(data)[0]["messages"]
            if isinstance(found, gemmule.Chat):
                speak(found)


def speak(chat: gemmule.Chat) -> None:
    """Its messages may be of a kind that the template refuses."""
    try:
        result = chat.send("Hi", max_tokens=2, ignore_eos=True)
    except GemmuleError:
        return
    assert len(result.tokens) == 2 or result.context_full


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what it lies in, and its key there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *places(value[key])]]


@drawing(60)
@given(st.data())
def test_words_changed_anywhere(tmp_path_factory, data):
    words, parts = words_of(whole())
    words = copy.deepcopy(words)
    for _ in range(data.draw(st.integers(1, 3))):
        inside = places(words)
        if not inside:
            break
        holder, key = data.draw(st.sampled_from(inside))
        match data.draw(st.sampled_from(["replace", "remove", "twice", "number"])):
            case "replace":
                holder[key] = data.draw(VALUES)
            case "remove":
                del holder[key]
            case "twice" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case "number" if isinstance(holder[key], int):
                holder[key] += data.draw(st.sampled_from([-1, 1, 2**31, 2**63, -(2**63)]))
    text = json.dumps(words).encode()
    check(tmp_path_factory.getbasetemp() / "any.chat", with_text(text, parts))


@drawing(40)
@given(st.data())
def test_bytes_changed_anywhere(tmp_path_factory, data):
    """The checksums are left as they were."""
    before = whole()
    _, parts = words_of(before)
    begin, end = data.draw(st.sampled_from([(0, 93), (93, len(before) - len(parts)), (len(before) - len(parts), None)]))
    at = data.draw(st.integers(begin, (end or len(before)) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "remove"])):
        case "flip":
            after = before[:at] + bytes([before[at] ^ data.draw(st.integers(1, 255))]) + before[at + 1 :]
        case "cut":
            after = before[:at]
        case "insert":
            after = before[:at] + data.draw(st.binary(min_size=1, max_size=8)) + before[at:]
        case "remove":
            after = before[:at] + before[at + data.draw(st.integers(1, 8)) :]
    path = tmp_path_factory.getbasetemp() / "any.chat"
    check(path, after)
    with pytest.raises(FormatError):
        model().load_chat(path)


@drawing(40)
@given(st.data())
def test_parts_changed_anywhere(tmp_path_factory, data):
    """Ids that are none are found; codes are numbers, whatever they are."""
    number = data.draw(st.integers(0, len(words_of(whole())[0]["parts"]) - 1))

    def change(part: bytearray) -> None:
        at = data.draw(st.integers(0, len(part) - 1))
        more = data.draw(st.binary(min_size=1, max_size=16))[: len(part) - at]
        part[at : at + len(more)] = more

    check(tmp_path_factory.getbasetemp() / "any.chat", with_part(number, change))
