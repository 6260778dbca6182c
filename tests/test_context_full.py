"""What chats do when their context is full: each way says so."""

import pytest

import gemmule
from chat_models import chat_model
from gemmule.chats.context_full import drop_oldest
from gemmule.chats.turns import not_executed, turn_begins

GREEDY = {"temperature": 0, "ignore_eos": True}


def chat_with(context_full, context=120, **options):
    return chat_model("mobile", "static", context=context).chat("Be brief.", context_full=context_full, **options)


def test_stop_ends_the_answer_and_says_so():
    chat = chat_with("stop")
    result = chat.send("Hi", max_tokens=None, **GREEDY)
    assert result.finish_reason == "length"
    assert result.context_full
    assert result.usage.total_tokens == 121  # the last one is not read any more
    assert len(chat.messages) == 3
    with pytest.raises(gemmule.ContextError, match="120"):
        chat.send("More", **GREEDY)
    assert len(chat.messages) == 3


def test_streams_say_so():
    pieces = list(chat_with("stop").stream("Hi", max_tokens=None, **GREEDY))
    assert [piece.context_full for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    pieces = list(chat_with("stop").stream("Hi", max_tokens=5, **GREEDY))
    assert not any(piece.context_full for piece in pieces)


def test_other_ends_are_not_taken_for_it():
    result = chat_with("stop").send("Hi", max_tokens=5, **GREEDY)
    assert (result.finish_reason, result.context_full, result.dropped_turns) == ("length", False, 0)


def test_an_error_leaves_the_conversation_as_it_was():
    chat = chat_with("error")
    chat.send("Hi", max_tokens=3, **GREEDY)
    before = chat.messages
    with pytest.raises(gemmule.ContextError, match="context holds 120"):
        chat.send("More", max_tokens=None, **GREEDY)
    pieces = chat.stream("More", max_tokens=None, **GREEDY)
    with pytest.raises(gemmule.ContextError, match="context holds 120"):
        list(pieces)
    assert chat.messages == before
    assert chat.send("More", max_tokens=3, **GREEDY).text


def test_oldest_turns_are_dropped_and_counted():
    chat = chat_with("drop-oldest-turns", context=256)
    total = 0
    for turn in range(12):
        result = chat.send(f"{turn} " * 8, max_tokens=30, **GREEDY)
        assert not result.context_full
        assert result.usage.prompt_tokens + 30 <= 256
        total += result.dropped_turns
        assert chat.dropped_turns == total
        assert chat.messages[0] == {"role": "system", "content": "Be brief."}
        users = [message["content"] for message in chat.messages if message["role"] == "user"]
        assert users == [f"{n} " * 8 for n in range(total, turn + 1)]
    assert total > 3


def test_no_more_turns_are_dropped_than_have_to_be():
    drops, stops = chat_with("drop-oldest-turns", context=256), chat_with("stop", context=256)
    for turn in range(10):
        try:
            want = stops.send(f"{turn} " * 8, max_tokens=30, **GREEDY)
        except gemmule.ContextError:
            break
        result = drops.send(f"{turn} " * 8, max_tokens=30, **GREEDY)
        if want.usage.prompt_tokens + 30 > 256:
            assert result.dropped_turns > 0
            break
        assert result.dropped_turns == 0
        assert result.tokens == want.tokens
    else:
        pytest.fail("the context never was full")


def test_a_long_answer_wants_a_quarter_of_the_context():
    chat = chat_with("drop-oldest-turns", context=256)
    for _ in range(8):
        result = chat.send("word " * 12, max_tokens=None, **GREEDY)
        assert result.usage.prompt_tokens <= 256 - 64
        assert result.context_full


def test_several_turns_make_room_for_a_long_one():
    chat = chat_with("drop-oldest-turns", context=256)
    for turn in range(3):
        chat.send(f"{turn}", max_tokens=5, **GREEDY)
    assert chat.dropped_turns == 0
    result = chat.send("word " * 55, max_tokens=30, **GREEDY)
    users = [message["content"] for message in chat.messages if message["role"] == "user"]
    assert result.dropped_turns == chat.dropped_turns == 4 - len(users) > 1


def test_a_question_that_never_fits():
    chat = chat_with("drop-oldest-turns")
    chat.send("Hi", max_tokens=3, **GREEDY)
    before = chat.messages
    with pytest.raises(gemmule.ContextError, match="120"):
        chat.send("word " * 120, **GREEDY)
    assert chat.messages == before
    assert chat.dropped_turns == 0


def test_a_turn_left_early_drops_nothing():
    chat = chat_with("drop-oldest-turns", context=256)
    while not chat.dropped_turns:
        before = chat.messages
        next(chat.stream("word " * 12, max_tokens=30, **GREEDY))
        assert chat.messages == before
        chat.send("word " * 12, max_tokens=30, **GREEDY)


def test_it_is_saved(tmp_path):
    chat = chat_with("drop-oldest-turns", context=256)
    while not chat.dropped_turns:
        chat.send("word " * 12, max_tokens=30, **GREEDY)
    chat.save(tmp_path / "fox.chat")
    loaded = chat_model("mobile", "static", context=256).load_chat(tmp_path / "fox.chat")
    assert loaded.dropped_turns == chat.dropped_turns
    assert loaded.send("word " * 12, max_tokens=30, **GREEDY).dropped_turns == 1


def test_refuses_other_choices():
    for wrong in ("drop", None, 1):
        with pytest.raises(gemmule.ArgumentError, match="context_full"):
            chat_with(wrong)


def drop_one_by_one(messages, new, encode, most):
    """What `drop_oldest` says, as plainly as it can be said."""
    dropped = 0
    while len(ids := encode([*messages, *new])) > most:
        begins = turn_begins(messages)
        ends = [*begins[1:], len(messages)]
        if new[0]["role"] == "tool":
            begins = begins[:-1]
        if not begins:
            break
        messages = messages[: begins[0]] + messages[ends[0] :]
        dropped += 1
    return messages, dropped, ids


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("role", ["user", "tool"])
@pytest.mark.parametrize("head", [[], [{"role": "system", "content": "sss"}]])
def test_as_many_are_dropped_as_one_by_one(turns, role, head):
    def encode(messages):
        return [id for message in messages for id in range(len(str(message["content"])))]

    messages = list(head)
    for turn in range(turns):
        calls = [{"id": "0", "function": {"name": "look"}}] if turn % 3 == 1 else []
        messages += [{"role": "user", "content": "x" * (turn % 4)}, {"role": "assistant", "content": "yyy"}]
        messages += not_executed(calls)
    new = [{"role": role, "content": "nn"}]
    for most in range(len(encode(messages)) + 4):
        assert drop_oldest(messages, new, encode, most) == drop_one_by_one(messages, new, encode, most)


def test_few_renderings_find_how_many():
    renderings = []

    def encode(messages):
        renderings.append(messages)
        return [0] * len(messages)

    messages = [{"role": role, "content": "x"} for _ in range(1000) for role in ("user", "assistant")]
    for most, dropped, renders in ((2001, 0, 1), (1999, 1, 2), (11, 995, 12), (0, 1000, 13)):
        renderings.clear()
        assert drop_oldest(messages, [{"role": "user", "content": "?"}], encode, most)[1] == dropped
        assert len(renderings) <= renders
