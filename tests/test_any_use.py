"""Whatever is asked of models, in whatever order, with wrong arguments between right ones: each answer is that of a
model that is asked nothing else, and each refusal is one of gemmule's."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from shutil import rmtree
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

import gemmule
from chat_models import KINDS, chat_model
from examples import drawing
from gemmule.errors import ArgumentError, ContextError, FormatError, GemmuleError, MissingFileError, ResourceError
from scratch import new_folder

CONTEXT = 160  # tokens
PROMPTS = ("A tale about a fox and a hen. " * 3, "A tale about a fox and a cat. " * 4, (2, 5, 7, 11, 13) * 14, "Hi.")
LONG = "word " * CONTEXT
COUNTS = (1, 4, 20)
SEEDS = (0, 7)
Kind = tuple[str, str]

# What is wrong to ask of any model, and the class of the refusal.
WRONG: dict[str, tuple[Callable[[gemmule.Model], object], type[GemmuleError]]] = {
    "no prompt": (lambda model: model.generate([]), ArgumentError),
    "a prompt of numbers": (lambda model: model.generate(7), ArgumentError),
    "an id beyond all": (lambda model: model.generate([2, 1 << 40]), ArgumentError),
    "an id below zero": (lambda model: model.logits([-1]), ArgumentError),
    "ids that are floats": (lambda model: model.logits(np.array([1.5, 2.5])), ArgumentError),
    "a list that holds itself": (lambda model: model.generate(endless()), ArgumentError),
    "a prompt that is too long": (lambda model: model.generate(LONG), ContextError),
    "one of two that is too long": (lambda model: model.generate(["Hi", LONG]), ContextError),
    "a stream that is too long": (lambda model: next(model.stream(LONG)), ContextError),
    "ids that are too many": (lambda model: model.logits([2] * (CONTEXT + 1)), ContextError),
    "no tokens": (lambda model: model.generate("Hi", max_tokens=0), ArgumentError),
    "true tokens": (lambda model: model.generate("Hi", max_tokens=True), ArgumentError),
    "a temperature of NaN": (lambda model: model.generate("Hi", temperature=float("nan")), ArgumentError),
    "a share over one": (lambda model: model.generate("Hi", top_p=1.5), ArgumentError),
    "a seed below zero": (lambda model: model.generate("Hi", seed=-1), ArgumentError),
    "a stop of nothing": (lambda model: model.generate("Hi", stop=""), ArgumentError),
    "a bias of a token that is none": (lambda model: model.generate("Hi", logit_bias={1 << 31: 1.0}), ArgumentError),
    "a processor that gives text": (lambda model: model.generate("Hi", logits_processors=[text_of]), ArgumentError),
    "a pattern that is none": (lambda model: model.generate("Hi", regex="("), ArgumentError),
    "two structures": (lambda model: model.generate("Hi", regex="a", grammar="start: /a/"), ArgumentError),
    "an unknown drafter": (lambda model: model.generate("Hi", draft="?"), ArgumentError),
    "several in a stream": (lambda model: next(model.stream(["Hi", "So"])), ArgumentError),
    "a text of one token": (lambda model: model.score([2]), ArgumentError),
    "a text of surrogates": (lambda model: model.score("\ud800"), ArgumentError),
    "another pooling": (lambda model: model.embed(["Hi"], pooling="sum"), ArgumentError),
    "a text in place of several": (lambda model: model.embed("Hi"), ArgumentError),
    "messages of no role": (lambda model: model.generate([{"content": "Hi"}]), ArgumentError),
    "another end of the context": (lambda model: model.chat(context_full="?"), ArgumentError),
    "a tool that is none": (lambda model: model.chat(tools=[7]), ArgumentError),
    "a chat that is not there": (lambda model: model.load_chat("/none.chat"), MissingFileError),
    "a chat that is none": (lambda model: model.load_chat(__file__), FormatError),
    "a chat without a place": (lambda model: model.chat().save("/none/x.chat"), MissingFileError),
    "a message too long": (lambda model: model.chat().send(LONG), ContextError),
    "no turn to undo": (lambda model: model.chat().undo(), ArgumentError),
    "a model that is not there": (lambda model: gemmule.load(model._folder / "none"), MissingFileError),
    "threads below one": (lambda model: gemmule.load(model._folder, threads=0), ArgumentError),
    "a context beyond the checkpoint's": (lambda model: gemmule.load(model._folder, context=1 << 30), ArgumentError),
    "an unknown cache": (lambda model: gemmule.load(model._folder, kv="f64"), ArgumentError),
    "a limit of one byte": (lambda model: gemmule.load(model._folder, memory_limit=1), ResourceError),
}


def endless() -> list:
    value: list = []
    value.append(value)
    return value


def text_of(ids, logits):
    return "logits"


@cache
def plain(kind: Kind) -> gemmule.Model:
    """It is asked for what is expected, and nothing else."""
    return chat_model(*kind, prefix_cache=0, context=CONTEXT)


@cache
def generated(kind: Kind, prompt: Any, count: int, seed: int) -> gemmule.Result:
    return plain(kind).generate(prompt, max_tokens=count, seed=seed, logprobs=True, ignore_eos=True)


@cache
def scored(kind: Kind, prompt: Any) -> gemmule.Score:
    return plain(kind).score(prompt)


@cache
def embedded(kind: Kind, prompt: Any) -> np.ndarray:
    return plain(kind).embed([prompt])[0]


def assert_same(result: gemmule.Result, want: gemmule.Result) -> None:
    assert result.tokens == want.tokens
    assert result.logprobs == want.logprobs
    assert (result.text, result.finish_reason) == (want.text, want.finish_reason)


@dataclass
class Used:
    kind: Kind
    model: gemmule.Model


@dataclass
class Open:
    """A stream under way, and the tokens that are to come."""

    pieces: Iterator[gemmule.Piece]
    tokens: list[int]


@dataclass
class Spoken:
    kind: Kind
    chat: gemmule.Chat
    turns: list[list[dict[str, Any]]] = field(default_factory=list)  # messages before each


class Uses(RuleBasedStateMachine):
    models = Bundle("models")
    streams = Bundle("streams")
    chats = Bundle("chats")
    files = Bundle("files")

    def __init__(self):
        super().__init__()
        self.folder = new_folder()
        self.loaded = self.saved = 0

    def teardown(self):
        rmtree(self.folder)

    @initialize(target=models, kind=st.sampled_from(KINDS))
    def load_first(self, kind):
        return self.load_one(kind)

    @precondition(lambda self: self.loaded < 3)
    @rule(
        target=models,
        kind=st.sampled_from(KINDS),
        threads=st.sampled_from([1, 2]),
        prefix_cache=st.sampled_from([0, 1_000_000, None]),
    )
    def load(self, kind, threads, prefix_cache):
        return self.load_one(kind, threads=threads, prefix_cache=prefix_cache)

    def load_one(self, kind, **options):
        self.loaded += 1
        folder = plain(kind)._folder
        return Used(kind, gemmule.load(folder, kv=kind[1], context=CONTEXT, trust_template=True, **options))

    @precondition(lambda self: self.loaded > 1)
    @rule(used=consumes(models))
    def drop(self, used):
        """What was made of it goes on: streams and chats keep what they need."""
        self.loaded -= 1

    @rule(
        used=models,
        prompt=st.sampled_from(PROMPTS),
        count=st.sampled_from(COUNTS),
        seed=st.sampled_from(SEEDS),
        draft=st.sampled_from([None, "prompt-lookup"]),
    )
    def generate(self, used, prompt, count, seed, draft):
        options = {"max_tokens": count, "seed": seed, "logprobs": True, "ignore_eos": True, "draft": draft}
        assert_same(used.model.generate(prompt, **options), generated(used.kind, prompt, count, seed))

    @rule(used=models, prompts=st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=3), seed=st.sampled_from(SEEDS))
    def generate_several(self, used, prompts, seed):
        results = used.model.generate(
            [list(each) if isinstance(each, tuple) else each for each in prompts],
            max_tokens=4,
            seed=seed,
            logprobs=True,
            ignore_eos=True,
        )
        for prompt, result in zip(prompts, results, strict=True):
            assert_same(result, generated(used.kind, prompt, 4, seed))

    @rule(used=models, prompts=st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=3))
    def generate_in_tasks(self, used, prompts):
        """One more is cancelled."""

        async def run():
            options = {"max_tokens": 4, "seed": 0, "logprobs": True, "ignore_eos": True}
            tasks = [asyncio.create_task(used.model.agenerate(each, **options)) for each in ("Hi.", *prompts)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        cancelled, *results = asyncio.run(run())
        assert isinstance(cancelled, asyncio.CancelledError)
        for prompt, result in zip(prompts, results, strict=True):
            assert_same(result, generated(used.kind, prompt, 4, 0))

    @rule(target=streams, used=models, prompt=st.sampled_from(PROMPTS), seed=st.sampled_from(SEEDS))
    def stream(self, used, prompt, seed):
        pieces = used.model.stream(prompt, max_tokens=20, seed=seed, ignore_eos=True)
        return Open(pieces, list(generated(used.kind, prompt, 20, seed).tokens))

    @rule(stream=streams, count=st.integers(0, 8))
    def go_on_or_stop(self, stream, count):
        want, stream.tokens = stream.tokens[:count], stream.tokens[count:]
        assert [next(stream.pieces).token for _ in want] == want
        if count == 0:
            stream.pieces.close()
            stream.tokens = []
        if not stream.tokens:
            assert next(stream.pieces, None) is None

    @rule(used=models, prompt=st.sampled_from(PROMPTS))
    def score(self, used, prompt):
        got, want = used.model.score(prompt), scored(used.kind, prompt)
        assert np.array_equal(got.ids, want.ids)
        assert np.array_equal(got.logprobs, want.logprobs)

    @rule(used=models, prompts=st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=3))
    def embed(self, used, prompts):
        vectors = used.model.embed(prompts)
        assert np.array_equal(vectors, [embedded(used.kind, each) for each in prompts])

    @rule(used=models, name=st.sampled_from(sorted(WRONG)))
    def ask_wrongly(self, used, name):
        ask, kind = WRONG[name]
        with pytest.raises(kind) as caught:
            ask(used.model)
        assert type(caught.value) is kind
        assert str(caught.value)

    @rule(used=models, error=st.sampled_from([KeyError, KeyboardInterrupt, SystemExit]), count=st.integers(0, 3))
    def raise_inside(self, used, error, count):
        """What a caller's own function raises comes out as it is."""

        def processor(ids, logits):
            if len(ids) >= asked + count:
                raise error("mine")
            return logits

        asked = len(used.model.tokenizer.encode("Hi."))
        with pytest.raises(error, match="mine"):
            used.model.generate("Hi.", max_tokens=8, logits_processors=[processor], ignore_eos=True)

    @rule(target=chats, used=models)
    def begin(self, used):
        return Spoken(used.kind, used.model.chat("Be brief.", context_full="drop-oldest-turns"))

    @rule(spoken=chats, text=st.sampled_from(["Hi.", "And then?"]))
    def send(self, spoken, text):
        before = spoken.chat.messages
        result = spoken.chat.send(text, max_tokens=4, seed=0, ignore_eos=True)
        assert len(result.tokens) == 4
        after = spoken.chat.messages
        assert after[-2] == {"role": "user", "content": text}
        assert after[1:-2] == before[len(before) - len(after) + 3 :]
        spoken.turns = [] if result.dropped_turns else [*spoken.turns, before]

    @rule(spoken=chats)
    def refuse_a_turn(self, spoken):
        before = spoken.chat.messages
        with pytest.raises(ContextError):
            spoken.chat.send(LONG)
        with pytest.raises(ArgumentError):
            spoken.chat.send("Hi.", top_k=-1)
        assert spoken.chat.messages == before

    @rule(spoken=chats)
    def undo(self, spoken):
        if spoken.turns:
            spoken.chat.undo()
            assert spoken.chat.messages == spoken.turns.pop()

    @rule(target=chats, spoken=chats)
    def fork(self, spoken):
        return Spoken(spoken.kind, spoken.chat.fork(), list(spoken.turns))

    @rule(target=files, spoken=chats)
    def save(self, spoken):
        self.saved += 1
        path = self.folder / f"{self.saved}.chat"
        spoken.chat.save(path)
        assert gemmule.read_chat(path).messages == spoken.chat.messages
        return spoken.kind, path, list(spoken.turns)

    @rule(target=chats, file=files, used=models)
    def load_chat(self, file, used):
        kind, path, turns = file
        if kind == used.kind:
            chat = used.model.load_chat(path)
            assert chat.messages == gemmule.read_chat(path).messages
            return Spoken(kind, chat, list(turns))
        with pytest.raises(ArgumentError, match="the chat is of"):
            used.model.load_chat(path)
        return multiple()

    @rule(file=consumes(files), at=st.integers(0, 3000))
    def damage(self, file, at):
        kind, path, _ = file
        data = bytearray(path.read_bytes())
        data[at % len(data)] ^= 1
        path.write_bytes(data)
        with pytest.raises(FormatError) as caught:
            plain(kind).load_chat(path)
        assert caught.value.file == str(path)


def test_any_use():
    run_state_machine_as_test(Uses, settings=drawing(50, stateful_step_count=40))
