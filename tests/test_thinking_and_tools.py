"""Conversations with thoughts and tools: what the model reads, token by token, and what callers get."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import gemmule
from fakes import TOKENIZER, TURN_END, Script, fake_model

TOKENS = gemmule.Tokenizer.from_pretrained(TOKENIZER)
CASES = {case["name"]: case for case in json.loads((TOKENIZER / "chat.json").read_text())}
CONTROL = [text for id in range(640) if TOKENS.control_token(text := TOKENS.decode([id])) is not None]

PARIS = '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>,unit:<|"|>celsius<|"|>}<tool_call|>'
ADD = "<|tool_call>call:add{opts:{round:true},xs:[1,2.5,-3]}<tool_call|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The published template, and end tokens as they are published for config.json: without <|tool_response>."""
    folder = tmp_path_factory.mktemp("checkpoint")
    shutil.copytree(TOKENIZER, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, TURN_END], "do_sample": False}))
    return folder


def ids_of(text, **options):
    return TOKENS.encode(text, add_special_tokens=False, **options)


def chat_of(folder, *turns, context=4000, **options):
    script = Script(*(ids_of(turn) if isinstance(turn, str) else turn for turn in turns))
    return fake_model(folder, script, context=context).chat(**options), script


def get_weather(city: str, unit: str = "celsius"):
    """Current weather."""
    if city == "Nowhere":
        raise ValueError("no such city")
    return {"temp": 21, "city": city, "unit": unit}


# What the model reads is what was recorded


def test_thinking_turns(folder):
    case = CASES["system_thinking"]
    said = "<|channel>thought\nhmm<channel|>Done."
    chat, script = chat_of(folder, said, "", system="Think.", thinking=True, tools=None)
    first, second = chat.send("Go"), chat.send("Again")
    assert script.prompts[1] == case["ids"]
    assert (first.thinking, first.text, first.tool_calls) == ("hmm", "Done.", ())
    assert (second.thinking, second.text) == (None, "")
    assert chat.messages[2] == {"role": "assistant", "content": "Done.", "reasoning": "hmm"}


@pytest.mark.parametrize(("name", "thinking"), [("thinking_on", True), ("thinking_on", 7), ("thinking_off", False)])
def test_the_switch(folder, name, thinking):
    chat, script = chat_of(folder, "Yes.", thinking=thinking)
    chat.send("Prove it.")
    assert script.prompts == [CASES[name]["ids"]]


def test_tool_turns(folder):
    chat, script = chat_of(folder, PARIS, "Well.", tools=CASES["tools"]["tools"])
    (call,) = chat.send("Weather in Paris?").tool_calls
    assert call == gemmule.ToolCall("get_weather", {"city": "Paris", "unit": "celsius"}, call.raw)
    assert script.prompts == [CASES["tools"]["ids"]]
    result = chat.send_tool_results(['{"temp": 21}'])
    assert (result.text, result.tool_calls) == ("Well.", ())
    chat, script = chat_of(folder, PARIS, "Well.", tools=CASES["tools"]["tools"], system="Use tools.")
    chat.send("Weather in Paris?")
    chat.send_tool_results(['{"temp": 21}'])
    assert script.prompts[1] == CASES["tools_response"]["ids"]


def test_a_conversation_with_all_of_it(folder):
    case = CASES["tools_done"]
    said = [PARIS, "It is 21 degrees.", ADD, "Bye."]
    chat, script = chat_of(folder, *said, tools=case["tools"], thinking=True)
    chat.send("Weather in Paris?")
    chat.send_tool_results(['{"temp": 21}'])
    assert chat.send("And the sum?").tool_calls[0].arguments == {"xs": [1, 2.5, -3], "opts": {"round": True}}
    chat.send_tool_results(["0.5"])
    assert script.prompts[3] == case["ids"]


def test_a_thought_before_a_call_stays(folder):
    case = CASES["reasoning_with_call"]
    thought = "<|channel>thought\nNeed the tool.\n<channel|>"
    chat, script = chat_of(folder, thought + PARIS, "Bye.", tools=case["tools"], thinking=True)
    assert chat.send("Weather?").thinking == "Need the tool."
    usage = chat.send_tool_results(['{"temp": 21}']).usage
    assert script.prompts[1] == case["ids"]
    assert usage.cached_tokens == case["ids"].index(TOKENS.control_token("<|tool_response>"))  # as it was said


def test_the_call_ends_the_turn(folder):
    """Though the end tokens lack <|tool_response>, the model does not go on to write results itself."""
    chat, _ = chat_of(folder, PARIS + "<|tool_response>response:get_weather{}<tool_response|>Hot.", tools=[get_weather])
    result = chat.send("Weather?")
    assert TOKENS.decode(result.tokens).endswith("<tool_call|><|tool_response>")
    assert (result.finish_reason, result.text) == ("stop", "")


# Results


@pytest.mark.parametrize(
    ("result", "written"),
    [
        ("hot", '{value:<|"|>hot<|"|>}'),
        ({"b": 1, "a": [True, None, "x"], "c": {"d": 0.5}}, '{a:[true,None,<|"|>x<|"|>],b:1,c:{d:0.5}}'),
        ({}, "{}"),
        (21, "{value:21}"),
        (1e20, "{value:1e+20}"),
        (False, "{value:false}"),
        ([1, "a"], '{value:[1,<|"|>a<|"|>]}'),
        ((1, 2), "{value:[1,2]}"),
    ],
)
def test_kinds_of_results(folder, result, written):
    chat, script = chat_of(folder, PARIS, "", tools=[get_weather])
    chat.send("Hi")
    chat.send_tool_results([result])
    answer = f"{PARIS}<|tool_response>response:get_weather{written}<tool_response|>"
    assert script.prompts[1][-len(ids_of(answer)) :] == ids_of(answer)


def test_several_calls(folder):
    chat, script = chat_of(folder, PARIS + PARIS.replace("Paris", "Rome"), "", tools=[get_weather])
    assert [call.arguments["city"] for call in chat.send("Hi").tool_calls] == ["Paris", "Rome"]
    chat.send_tool_results(["cold", "hot"])
    answers = "".join(
        f'<|tool_response>response:get_weather{{value:<|"|>{each}<|"|>}}<tool_response|>' for each in ("cold", "hot")
    )
    assert script.prompts[1][-len(ids_of(answers)) :] == ids_of(answers)


def test_calls_of_several_tools(folder):
    """Each result stands under the name of its own call."""
    chat, script = chat_of(folder, PARIS + ADD, "", tools=CASES["tools"]["tools"])
    assert [call.name for call in chat.send("Hi").tool_calls] == ["get_weather", "add"]
    chat.send_tool_results(["hot", 0.5])
    assert 'response:get_weather{value:<|"|>hot<|"|>}<tool_response|>' in TOKENS.decode(script.prompts[1])
    assert TOKENS.decode(script.prompts[1]).endswith("<|tool_response>response:add{value:0.5}<tool_response|>")


@pytest.mark.parametrize("results", [[], ["a", "b"], "a", None, {"a": 1}, [object()], [float("nan")]])
def test_results_that_do_not_fit(folder, results):
    chat, _ = chat_of(folder, PARIS, "Well.", tools=[get_weather])
    chat.send("Hi")
    with pytest.raises(gemmule.ArgumentError):
        chat.send_tool_results(results)
    assert chat.send_tool_results(["a"]).text == "Well."
    for none_waits in ([], ["a"]):
        with pytest.raises(gemmule.ArgumentError, match="no call waits"):
            chat.send_tool_results(none_waits)


def test_calls_without_results_are_said_to_be_not_executed(folder):
    chat, script = chat_of(folder, PARIS, "", tools=[get_weather])
    chat.send("Hi")
    chat.send("Leave it.")
    written = (
        f'<|turn>model\n{PARIS}<|tool_response>response:get_weather{{error:<|"|>not executed<|"|>}}<tool_response|>'
        "<turn|>\n<|turn>user\nLeave it.<turn|>\n"
    )
    assert written in TOKENS.decode(script.prompts[1])
    roles = [message["role"] for message in chat.messages]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]


def test_undo_takes_calls_and_results_back(folder):
    chat, _ = chat_of(folder, PARIS, "Well.", PARIS, "No.", "Again.", tools=[get_weather])
    chat.run("Hi")
    before = chat.messages
    chat.send("And now?")
    asked = chat.messages
    chat.send("Leave it.")  # behind calls without results
    fork = chat.fork()
    chat.undo()
    assert chat.messages == asked
    chat.undo()
    assert chat.messages == before
    chat.undo()
    assert chat.messages == []
    assert len(fork.messages) == len(asked) + 4
    assert fork.send("Go on.").text == "Again."


def test_a_run_that_fails_brings_dropped_turns_back(folder):
    chat, _ = chat_of(
        folder, "Yes. " * 30, "Yes. " * 30, PARIS, tools=[get_weather], context=800, context_full="drop-oldest-turns"
    )
    for _ in range(2):
        chat.send("Hi " * 20, max_tokens=None)
    before = chat.messages

    def broken(city: str, unit: str = "celsius"):
        raise KeyboardInterrupt

    (tool,) = chat._tools.values()
    chat._tools = {tool.name: replace(tool, function=broken)}
    with pytest.raises(KeyboardInterrupt):
        chat.run("word " * 20, max_tokens=200)
    assert chat.messages == before
    assert chat.dropped_turns == 0


def test_results_are_not_parted_from_their_calls(folder):
    chat, _ = chat_of(
        folder, "Yes. " * 60, PARIS, "Well.", tools=[get_weather], context=800, context_full="drop-oldest-turns"
    )
    chat.send("Hi", max_tokens=None)
    calls = chat.send("Weather?", max_tokens=200).tool_calls
    result = chat.send_tool_results(["hot " * 60 for _ in calls], max_tokens=200)
    assert result.dropped_turns == chat.dropped_turns == 1
    assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "assistant"]


def test_text_beside_calls(folder):
    """The template would write it behind the results: it stays in the messages alone."""
    chat, script = chat_of(folder, f"I look.{PARIS}", "Well.", tools=[get_weather])
    result = chat.send("Hi")
    assert result.text == chat.messages[1]["content"] == "I look."
    chat.send_tool_results(["hot"])
    assert TOKENS.decode(script.prompts[1]).endswith('{value:<|"|>hot<|"|>}<tool_response|>')


# Streams


def test_streams(folder):
    said = f"<|channel>thought\nHm, €.\n<channel|>Let me see.{PARIS}"
    chat, _ = chat_of(folder, said, "It is hot.", tools=[get_weather], thinking=True)
    pieces = list(chat.stream("Hi"))
    assert "".join(piece.thinking for piece in pieces) == "Hm, €."
    assert "".join(piece.text for piece in pieces) == "Let me see."
    (place,) = [place for place, piece in enumerate(pieces) if piece.tool_calls]
    assert TOKENS.decode([pieces[place].token]) == "<tool_call|>"
    assert pieces[place].tool_calls[0].name == "get_weather"
    assert "".join(piece.text for piece in chat.stream_tool_results(["hot"])) == "It is hot."
    assert len(chat.messages) == 4


def test_results_left_early_leave_no_trace(folder):
    chat, _ = chat_of(folder, PARIS, "It is hot.", "It is cold.", tools=[get_weather])
    chat.send("Hi")
    next(chat.stream_tool_results(["hot"]))
    assert len(chat.messages) == 2
    assert chat.send_tool_results(["cold"]).text == "It is cold."


# Budgets


class Thinker:
    """Thinks on and on; answers once its thought was ended."""

    def __init__(self):
        self.answer = ids_of("Yes.")

    def __call__(self, ids):
        end = TOKENS.control_token("<channel|>")
        if end in ids:
            behind = len(ids) - 1 - ids.index(end)
            return self.answer[behind] if behind < len(self.answer) else TURN_END
        thought = [*ids_of("<|channel>thought\n")]
        begun = len(ids) - len(CASES["thinking_on"]["ids"])
        return thought[begun] if begun < len(thought) else ids_of("m")[0]


@pytest.mark.parametrize("budget", [1, 5])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_budget_ends_the_thought(folder, budget, temperature):
    chat = fake_model(folder, Thinker(), vocab_size=640).chat(thinking=budget)
    result = chat.send("Prove it.", temperature=temperature, top_k=1, repetition_penalty=1.5, logprobs=True)
    assert (result.thinking, result.text, result.finish_reason) == ("m" * budget, "Yes.", "stop")
    assert TOKENS.decode(result.tokens) == f"<|channel>thought\n{'m' * budget}<channel|>Yes.<turn|>"
    assert all(np.isfinite(result.logprobs))
    assert result.logprobs[-len(ids_of("Yes.")) - 2] == pytest.approx(np.log(0.5 / 639), abs=1e-3)  # the model's own


def test_without_a_budget_it_goes_on(folder):
    chat = fake_model(folder, Thinker()).chat(thinking=True)
    result = chat.send("Prove it.", max_tokens=40)
    assert (result.text, result.finish_reason) == ("", "length")
    assert len(result.thinking) == 40 - len(ids_of("<|channel>thought\n"))


@pytest.mark.parametrize("thinking", [0, -1, 1.5, "yes", None])
def test_thinking_is_a_switch_or_a_number(folder, thinking):
    with pytest.raises(gemmule.ArgumentError, match="thinking"):
        chat_of(folder, thinking=thinking)


# run


def test_run(folder):
    chat, script = chat_of(folder, PARIS, PARIS.replace("Paris", "Rome"), "Both are hot.", tools=[get_weather])
    run = chat.run("Weather?", temperature=0)
    assert (run.text, run.finish_reason) == ("Both are hot.", "stop")
    assert [each.value["city"] for each in run.results] == ["Paris", "Rome"]
    assert [len(each.tool_calls) for each in run.answers] == [1, 1, 0]
    response = (
        '<|tool_response>response:get_weather{city:<|"|>Rome<|"|>,temp:21,unit:<|"|>celsius<|"|>}<tool_response|>'
    )
    assert TOKENS.decode(script.prompts[2]).endswith(response)
    assert [message["role"] for message in chat.messages][:4] == ["user", "assistant", "tool", "assistant"]


def test_run_without_calls(folder):
    chat, _ = chat_of(folder, "Hello.")
    run = chat.run("Hi")
    assert (run.text, run.results, len(run.answers)) == ("Hello.", (), 1)


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_limit_of_rounds(folder, rounds):
    chat, script = chat_of(folder, *[PARIS] * 4, "Well.", tools=[get_weather])
    run = chat.run("Weather?", max_rounds=rounds)
    assert (run.finish_reason, len(run.results), len(run.answers)) == ("max_rounds", rounds, rounds + 1)
    assert len(script.prompts) == rounds + 1
    chat.send_tool_results(["hot"])  # the caller may go on


@pytest.mark.parametrize(
    ("said", "told", "error"),
    [
        (PARIS.replace("Paris", "Nowhere"), "ValueError: no such city", ValueError),
        (
            PARIS.replace("get_weather", "get_whether"),
            "no tool has the name 'get_whether'; there are: get_weather",
            None,
        ),
        (PARIS.replace("city", "town"), "get_weather: the argument 'city' is missing", None),
        (PARIS.replace('<|"|>Paris<|"|>', "7"), "get_weather: the argument 'city' is 7; expected type string", None),
        (PARIS.replace("}", ""), 'this is no call of a tool: expected "," or "}"; found the end', None),
        (
            "<|tool_call>get_weather<tool_call|>",
            'this is no call of a tool: expected "call"; found "get_weather"',
            None,
        ),
    ],
)
def test_what_goes_wrong_is_told_to_the_model(folder, said, told, error):
    chat, script = chat_of(folder, said, "Sorry.", tools=[get_weather])
    run = chat.run("Weather?")
    assert run.text == "Sorry."
    assert run.results[0].value == {"error": told}
    prompt = TOKENS.decode(script.prompts[1])
    assert prompt.endswith(f'{{error:<|"|>{told}<|"|>}}<tool_response|>'), prompt
    chat, _ = chat_of(folder, said, tools=[get_weather])
    with pytest.raises(error or gemmule.ToolCallError):
        chat.run("Weather?", raise_errors=True)
    assert chat.messages == []


def test_tools_that_ask_their_own_chat(folder):
    """It may be looked at, but not changed in the middle of a run."""
    changes = [
        lambda: chat.send("And you?"),
        lambda: chat.stream("And you?"),
        lambda: chat.run("And you?"),
        lambda: chat.send_tool_results([1]),
        lambda: chat.stream_tool_results([1]),
        lambda: chat.undo(),
    ]

    def asks():
        for change in changes:
            with pytest.raises(gemmule.ArgumentError, match="in use: the thread that asks is in the middle of another"):
                change()
        assert [message["role"] for message in chat.fork().messages] == ["user", "assistant"]
        return "done"

    chat, _ = chat_of(folder, "<|tool_call>call:asks{}<tool_call|>", "Done.", tools=[asks])
    run = chat.run("Hi")
    assert (run.text, run.results[0].value) == ("Done.", "done")
    chat.undo()
    assert chat.messages == []


def test_a_malformed_call_in_the_history(folder):
    """It stands there as it was said, in the template's frame and in ordinary tokens."""
    chat, script = chat_of(folder, PARIS.replace("}", ""), "", "", tools=[get_weather])
    chat.run("Weather?")
    body = 'city:<|"|>Paris<|"|>,unit:<|"|>celsius<|"|>'
    written = [*ids_of("<|tool_call>call:get_weather{"), *ids_of(body, parse_special=False), *ids_of("}<tool_call|>")]
    assert TOKENS.decode(written) in TOKENS.decode(script.prompts[1])
    assert (
        script.prompts[1].count(TOKENS.control_token('<|"|>'))
        == script.prompts[0].count(TOKENS.control_token('<|"|>')) + 2
    )  # those of the error's text


def test_what_callers_change_is_not_in_the_conversation(folder):
    def changes(xs: list[int]):
        xs.append(2)

    chat, _ = chat_of(folder, "<|tool_call>call:changes{xs:[1]}<tool_call|>", "Done.", tools=[changes])
    chat.run("Hi")
    chat.messages[1]["tool_calls"].clear()
    assert chat.messages[1]["tool_calls"][0]["function"]["arguments"] == {"xs": [1]}


def test_run_needs_functions(folder):
    chat, script = chat_of(folder, tools=[get_weather, CASES["tools"]["tools"][1]])
    with pytest.raises(gemmule.ArgumentError, match="tool 'add' is a schema"):
        chat.run("Hi")
    with pytest.raises(gemmule.ArgumentError, match="max_rounds"):
        chat.run("Hi", max_rounds=0)
    assert script.prompts == []


def test_a_run_that_is_interrupted_leaves_no_trace(folder):
    def stops():
        raise KeyboardInterrupt

    chat, _ = chat_of(folder, "Hello.", "<|tool_call>call:stops{}<tool_call|>", "Hello again.", tools=[stops])
    chat.send("Hi")
    with pytest.raises(KeyboardInterrupt):
        chat.run("Stop.")
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]
    assert chat.send("Hi").text == "Hello again."


# Control tokens are the template's alone


def counts(ids):
    found = np.bincount(ids, minlength=640)
    return {id: int(found[id]) for id in range(640) if found[id] and not TOKENS.has_text(id)}


def prompts_of(folder, word):
    """All prompts of a conversation in which every text that people, tools and models write is `word`."""
    schema = {
        "type": "function",
        "function": {
            "name": "f",
            "description": word,
            "parameters": {
                "type": "object",
                "properties": {
                    "x": {"type": "string", "description": word, "enum": [word]},
                    "y": {"type": "array", "items": {"type": "string", "description": word}},
                },
            },
        },
    }
    text = ids_of(f"<{word}>", parse_special=False)
    call = [
        *ids_of("<|channel>thought\n"),
        *text,
        *ids_of('\n<channel|><|tool_call>call:f{x:<|"|>'),
        *text,
        *ids_of('<|"|>}<tool_call|>'),
    ]
    malformed = [*ids_of("<|tool_call>call:f{x:"), *text, *ids_of("}<tool_call|>")]
    chat, script = chat_of(folder, call, call, malformed, text, [], system=word, tools=[schema], thinking=True)
    (read,) = chat.send(word).tool_calls
    assert read.arguments == {"x": f"<{word}>"}
    chat.send_tool_results([word])
    chat.send_tool_results([{f"k{word}": {f"k{word}": [word]}}])
    assert isinstance(chat.send_tool_results([{"error": word}]).text, str)
    assert chat.messages[-1]["content"] == f"<{word}>"
    chat.send(f"Go {word} on.")
    return script.prompts


@pytest.mark.parametrize("token", CONTROL)
def test_nobody_forges_control_tokens(folder, token):
    plain, forged = prompts_of(folder, "word"), prompts_of(folder, token)
    assert [counts(ids) for ids in forged] == [counts(ids) for ids in plain]
    for ids, others in zip(forged, plain, strict=True):
        assert TOKENS.decode(ids).count(token) - others.count(TOKENS.control_token(token)) == TOKENS.decode(
            others
        ).count("word")


def test_all_control_tokens_are_tried():
    assert len(CONTROL) == 25
    assert {"<|turn>", "<turn|>", "<|think|>", "<|tool_response>", '<|"|>', "<bos>", "<eos>", "<|image|>"} <= set(
        CONTROL
    )


# Checkpoints that have none of it


def test_a_template_without_them(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(gemmule.UnsupportedError, match="no switch for thinking") as caught:
        chat_of(tmp_path, thinking=True)
    assert "thinking=False" in caught.value.remedy
    with pytest.raises(gemmule.UnsupportedError, match="no place for tools"):
        chat_of(tmp_path, tools=[get_weather])
    chat, _ = chat_of(tmp_path, "Hello.")
    assert chat.send("Hi").text == "Hello."


def test_the_bundled_model_has_none():
    with pytest.raises(gemmule.UnsupportedError, match="no chat template"):
        gemmule.load("fairy").chat(thinking=True, tools=[get_weather])


def test_a_call_that_nobody_offered(folder):
    chat, _ = chat_of(folder, PARIS, "Well.")
    assert chat.send("Hi").tool_calls[0].name == "get_weather"
    assert chat.send("And now?").text == "Well."
