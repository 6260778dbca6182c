"""Chats of one model in many threads, as one after the other; one chat in two threads is refused."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gemmule
from chat_models import KINDS, chat_model
from fakes import TOKENIZER, fake_model

SYSTEM = "Be brief. " * 20  # long enough to be kept, so that the chats share it
TURNS = [f"Turn {turn}: a tale about a fox, please." for turn in range(3)]


def conversation(model, seed):
    """All that a chat says: a sampled turn, one in a fork, one that is taken back, and a greedy one."""
    chat = model.chat(SYSTEM)
    said = [chat.send(f"{TURNS[0]} {seed}", seed=seed, max_tokens=12, ignore_eos=True, logprobs=True)]
    said.append(chat.fork().send(TURNS[1], temperature=0, max_tokens=8, ignore_eos=True, logprobs=True))
    list(chat.stream(TURNS[1], seed=seed + 1, max_tokens=20, ignore_eos=True))
    chat.undo()
    said.append(chat.send(TURNS[2], temperature=0, max_tokens=12, ignore_eos=True, logprobs=True))
    return [(each.tokens, each.logprobs) for each in said], chat.messages


@pytest.mark.parametrize(("name", "kv"), KINDS, ids=["f32", "bf16", "static"])
def test_many_threads_with_a_chat_each(name, kv):
    plain = chat_model(name, kv, prefix_cache=0)
    model = gemmule.load(plain._folder, kv=kv, threads=2, trust_template=True, prefix_cache=1_000_000)
    want = [conversation(plain, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda seed: conversation(model, seed), range(8))) == want


def test_beside_tasks():
    plain = chat_model("mobile", "static", prefix_cache=0)
    model = gemmule.load(plain._folder, threads=2, trust_template=True)
    asked = {"seed": 3, "max_tokens": 40, "ignore_eos": True}
    want = [conversation(plain, seed) for seed in range(4)], plain.generate("A fox", **asked).tokens

    async def main():
        threads = [asyncio.to_thread(conversation, model, seed) for seed in range(4)]
        return await asyncio.gather(model.agenerate("A fox", **asked), *threads)

    result, *conversations = asyncio.run(main())
    assert (conversations, result.tokens) == want


class Held:
    """A model that thinks about a token until it is let go."""

    def __init__(self):
        self.thinks, self.go = threading.Event(), threading.Event()

    def __call__(self, ids):
        self.thinks.set()
        assert self.go.wait(10)
        return 299


IN_A_CHAT = {
    "send": lambda chat, folder: chat.send("Hi"),
    "stream": lambda chat, folder: chat.stream("Hi"),
    "run": lambda chat, folder: chat.run("Hi"),
    "send_tool_results": lambda chat, folder: chat.send_tool_results([]),
    "stream_tool_results": lambda chat, folder: chat.stream_tool_results([]),
    "fork": lambda chat, folder: chat.fork(),
    "undo": lambda chat, folder: chat.undo(),
    "save": lambda chat, folder: chat.save(folder / "a.chat"),
}


@pytest.mark.parametrize("call", IN_A_CHAT.values(), ids=IN_A_CHAT)
@pytest.mark.parametrize("begin", ["send", "stream"])
def test_a_chat_is_for_one_thread_at_a_time(call, begin, tmp_path):
    held = Held()
    chat = fake_model(TOKENIZER, held).chat()
    asked = {"max_tokens": 3, "temperature": 0}
    with ThreadPoolExecutor(1) as pool:
        if begin == "send":
            answer = pool.submit(lambda: chat.send("Hello", **asked).tokens)
        else:
            pieces = chat.stream("Hello", **asked)
            answer = pool.submit(lambda: [piece.token for piece in pieces])
        try:
            assert held.thinks.wait(10)
            with pytest.raises(
                gemmule.ArgumentError, match=r"in use by another thread\nWait, or use one chat for each"
            ):
                call(chat, tmp_path)
        finally:
            held.go.set()
        assert answer.result() == [299] * 3
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]  # as if nobody had asked
    assert len(chat.send("Hi", **asked).tokens) == 3


@pytest.mark.parametrize("call", [next, lambda pieces: pieces.close()], ids=["next", "close"])
def test_a_stream_is_for_one_thread_at_a_time(call):
    held = Held()
    pieces = fake_model(TOKENIZER, held).chat().stream("Hello", max_tokens=3, temperature=0)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: [piece.token for piece in pieces])
        try:
            assert held.thinks.wait(10)
            with pytest.raises(gemmule.ArgumentError, match="in use by another thread"):
                call(pieces)
        finally:
            held.go.set()
        assert answer.result() == [299] * 3


def test_two_threads_again_and_again():
    """Each turn happens as a whole, or is refused."""
    model = gemmule.load(chat_model("mobile", "static")._folder, threads=1, trust_template=True)
    chat, plain = model.chat(), chat_model("mobile", "static", prefix_cache=0)
    done, refused = [], []

    def work(name):
        for turn in range(20):
            text = f"{name} {turn}"
            try:
                done.append((text, chat.send(text, temperature=0, max_tokens=3, ignore_eos=True).tokens))
            except gemmule.ArgumentError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [message["content"] for message in chat.messages if message["role"] == "user"]
    assert sorted(asked) == sorted(text for text, _ in done)
    assert len(done) + len(refused) == 40
    assert all("in use by another thread" in error for error in refused)
    tokens = dict(done)
    alone = plain.chat()
    for text in asked:
        assert alone.send(text, temperature=0, max_tokens=3, ignore_eos=True).tokens == tokens[text]


def test_a_callback_that_asks_its_own_chat():
    chat = fake_model(TOKENIZER, lambda ids: 299).chat()

    def processor(ids, logits):
        chat.send("And you?")

    with pytest.raises(gemmule.ArgumentError, match="in use: the thread that asks is in the middle"):
        chat.send("Hi", logits_processors=[processor])
    assert chat.messages == []
    assert np.array_equal(chat.send("Hi", temperature=0, max_tokens=2).tokens, [299] * 2)
