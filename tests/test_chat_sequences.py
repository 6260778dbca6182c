"""Whatever is done with chats, in whatever order: they go on as one that was spoken to from the beginning."""

import random
from dataclasses import dataclass, field
from shutil import rmtree
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

import gemmule
from chat_models import KINDS, chat_model, logits_behind
from examples import drawing
from gemmule.chats.turns import calls_of, not_executed, shown
from golden_cases import FIXTURES
from scratch import new_folder

TEXTS = st.sampled_from(["Hi.", "And then?", "A tale about a fox and a hen. " * 3, "word " * 30])
COUNTS = st.sampled_from([1, 3, 20, 70])  # tokens of an answer


SYSTEM = [{"role": "system", "content": "Be brief."}]
GREEDY = {"temperature": 0, "ignore_eos": True, "logprobs": True}


@dataclass
class Spoken:
    """A chat, and what must stand in it after each number of turns."""

    chat: gemmule.Chat
    history: list[list[dict[str, Any]]] = field(default_factory=lambda: [SYSTEM])

    def asked(self, text: str) -> list[dict[str, Any]]:
        """The conversation and `text`. Models that were not trained write calls, too, which nobody makes."""
        messages = self.history[-1]
        return [*messages, *not_executed(calls_of(messages)), {"role": "user", "content": text}]


def machine_for(name, kv):
    plain = chat_model(name, kv, prefix_cache=0)

    class Conversations(RuleBasedStateMachine):
        chats = Bundle("chats")

        def __init__(self):
            super().__init__()
            # A small cache of prefixes, so that it drops some; all chats use it.
            self.model = gemmule.load(plain._folder, kv=kv, threads=1, trust_template=True, prefix_cache=1_000_000)
            self.folder = new_folder()
            self.latest = None

        def teardown(self):
            rmtree(self.folder)

        @rule(target=chats)
        def begin(self):
            return Spoken(self.model.chat(SYSTEM[0]["content"]))

        @rule(spoken=chats, text=TEXTS, count=COUNTS)
        def send(self, spoken, text, count):
            asked = spoken.asked(text)
            result = spoken.chat.send(text, max_tokens=count, **GREEDY)
            want = plain.generate(shown(asked), max_tokens=count, **GREEDY)  # reads everything
            assert want.usage.cached_tokens == 0
            assert result.tokens == want.tokens
            assert result.logprobs == want.logprobs
            spoken.history.append([*asked, spoken.chat.messages[-1]])
            self.latest = spoken

        @rule(spoken=chats, text=TEXTS, count=st.integers(1, 70))
        def cancel(self, spoken, text, count):
            answer = spoken.chat.stream(text, max_tokens=80, **GREEDY)
            for _ in range(count):
                next(answer)
            answer.close()
            self.latest = spoken

        @rule(target=chats, spoken=chats)
        def fork(self, spoken):
            return Spoken(spoken.chat.fork(), list(spoken.history))

        @rule(spoken=chats)
        def undo(self, spoken):
            if len(spoken.history) > 1:
                spoken.chat.undo()
                spoken.history.pop()
            else:
                with pytest.raises(gemmule.ArgumentError):
                    spoken.chat.undo()
            self.latest = spoken

        @rule(target=chats, spoken=chats)
        def save_and_load(self, spoken):
            spoken.chat.save(self.folder / "one.chat")
            return Spoken(self.model.load_chat(self.folder / "one.chat"), list(spoken.history))

        @rule(spoken=consumes(chats))
        def forget(self, spoken):
            pass

        @invariant()
        def goes_on_alike(self):
            if self.latest is None:
                return
            spoken, self.latest = self.latest, None
            assert spoken.chat.messages == spoken.history[-1]
            prompt = plain.tokenizer.encode_messages(shown(spoken.asked("So?")))
            want = plain._new_decoder().prefill(np.array(prompt, np.int32))
            assert np.array_equal(logits_behind(spoken.chat, "So?"), want)

    return Conversations


@pytest.mark.parametrize(("name", "kv"), KINDS, ids=["f32", "bf16", "static"])
def test_any_sequence(name, kv):
    run_state_machine_as_test(
        machine_for(name, kv),
        settings=drawing(25, stateful_step_count=25),
    )


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_with_drafts(tmp_path, monkeypatch, seed):
    """A chat whose model drafts goes the way of one whose model does not, whatever is done between its turns."""
    monkeypatch.setattr("gemmule.generation.draft_length.DraftLength.next", lambda _: 3)
    plain = chat_model("e2b", "bf16").chat()
    model = chat_model("e2b", "bf16", mtp=FIXTURES / "mtp")
    drafting = model.chat()
    source = random.Random(seed)
    turns = drafted = 0
    for step in range(10):
        match source.choice(["send", "send", "fork", "undo", "save", "cancel"]):
            case "send":
                options = {"max_tokens": 20, "temperature": source.choice([0, 1]), "seed": step, "ignore_eos": True}
                text = source.choice(["Hi", "a b a b a b", "So?"])
                want = plain.send(text, **options)
                result = drafting.send(text, draft=source.choice(["auto", "prompt-lookup"]), **options)
                assert result.tokens == want.tokens
                turns, drafted = turns + 1, drafted + result.usage.drafted_tokens
            case "fork":
                plain, drafting = plain.fork(), drafting.fork()
            case "undo" if turns:
                plain.undo()
                drafting.undo()
                turns -= 1
            case "save":
                drafting.save(tmp_path / "chat")
                drafting = model.load_chat(tmp_path / "chat")
            case "cancel":
                answer = drafting.stream("Stop?", max_tokens=20, ignore_eos=True)
                next(answer)
                next(answer)
                answer.close()
        assert drafting.messages == plain.messages
    assert drafted > 0


def test_a_turn_that_fails_at_its_beginning(monkeypatch):
    """Where another chat has read the same, its cache serves the turn: it is not the chat's before the turn begins."""
    plain = chat_model("mobile", "static", prefix_cache=0)
    model = gemmule.load(plain._folder, threads=1, trust_template=True)
    same, other = "Be brief. " * 9 + "one " * 99, "Be brief. " * 9 + "two " * 99
    asked = {**GREEDY, "max_tokens": 5}
    model.chat().send(other, **asked)
    chat = model.chat()
    chat.send(same, **asked)
    chat.undo()

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr("gemmule.chats.chat.Generation", fail)
        with pytest.raises(MemoryError):
            chat.send(other, **asked)
    want = plain.chat()
    for text in (same, "So?"):
        result, wanted = chat.send(text, **asked), want.send(text, **asked)
        assert (result.tokens, result.logprobs) == (wanted.tokens, wanted.logprobs)
