"""Structures in conversations: they hold the answer, not the thoughts and calls before it."""

import json
import shutil

import pytest

import gemmule
from fakes import TOKENIZER, TURN_END, Script, fake_model

pytest.importorskip("llguidance")

TOKENS = gemmule.Tokenizer.from_pretrained(TOKENIZER)
THOUGHT = "<|channel>thought\nOnly yes or no.<channel|>"
CALL = "<|tool_call>call:look{}<tool_call|>"


def look() -> str:
    """Looks."""
    return "It rains."


@pytest.fixture
def chat_of(tmp_path):
    """A chat in which the model would say certain turns."""
    shutil.copytree(TOKENIZER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, TURN_END], "do_sample": False}))

    def chat(*turns, **options):
        script = Script(*(TOKENS.encode(turn, add_special_tokens=False) for turn in turns))
        return fake_model(tmp_path, script, context=4000).chat(**options)

    return chat


def test_a_thought_is_free(chat_of):
    result = chat_of(THOUGHT + "yes", thinking=True).send("Rain?", regex="yes|no")
    assert (result.thinking, result.text, result.finish_reason) == ("Only yes or no.", "yes", "stop")


def test_a_thought_does_not_end_the_answer(chat_of):
    result = chat_of("<|channel>thought\nHm", thinking=True).send("Rain?", regex="yes|no", max_tokens=60)
    assert (result.text, result.finish_reason) == ("", "length")
    assert TURN_END not in result.tokens


def test_a_budget_leaves_the_answer_whole(chat_of):
    result = chat_of("<|channel>thought\nHmmmmmm", thinking=3).send("Rain?", regex="yes|no")
    assert result.text in ("yes", "no")
    assert result.finish_reason == "stop"
    assert len(result.thinking) >= 1


@pytest.mark.parametrize("begin", [THOUGHT, CALL])
def test_nothing_stands_before_it_that_nobody_asked_for(chat_of, begin):
    result = chat_of(begin + "yes").send("Rain?", regex="yes|no")
    assert (result.thinking, result.tool_calls) == (None, ())
    assert result.text in ("yes", "no")


def test_no_thought_within_the_answer(chat_of):
    result = chat_of("ye" + THOUGHT + "s", thinking=True).send("Rain?", regex="yes|yeah")
    assert result.thinking is None
    assert result.text in ("yes", "yeah")


def test_a_call_comes_before_the_answer(chat_of):
    chat = chat_of(CALL, '{"rains": true}', tools=[look])
    run = chat.run("Rain?", schema={"type": "object", "properties": {"rains": {"type": "boolean"}}})
    assert [call.name for call in run.answers[0].tool_calls] == ["look"]
    assert (run.answers[0].text, run.answers[0].parsed) == ("", None)
    assert isinstance(run.answers[1].parsed, dict)


def test_no_answer_beside_a_call(chat_of):
    result = chat_of(CALL + "yes", tools=[look]).send("Rain?", regex="yes|no")
    assert (result.text, len(result.tool_calls)) == ("", 1)


def test_an_answer_without_calls(chat_of):
    assert chat_of("no", tools=[look]).send("Rain?", regex="yes|no").text == "no"
