"""In the midst of anything Python calls handlers of signals, and `__del__` of garbage, on the same thread: what these
ask a model or a chat for comes, or is refused, and never waits for what it interrupted. Each case runs in a child,
because it may hang."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

import gemmule
from chat_models import chat_model
from golden_cases import FIXTURES
from scratch import new_folder

ASKED = {"seed": 3, "max_tokens": 3, "ignore_eos": True, "logprobs": True}
SECONDS = 120


def said(result):
    return result.tokens, result.logprobs


def at_every_line(files, begin, call, meanwhile):
    """call(begin()) again and again: meanwhile() is called before its first line in one of these files, then before its
    second, and so on. Its argument is what begin gave, too."""
    place = reached = 0
    while reached >= place:
        thing, reached = begin(), -1

        def line(frame, event, _, place=place, thing=thing):
            nonlocal reached
            if event == "line":
                reached += 1
                if reached == place:
                    meanwhile(thing)
            return line

        def called(frame, event, _, line=line):
            code = frame.f_code
            return line if Path(code.co_filename).name in files and code.co_name[0] != "<" else None

        threading.settrace(called)
        sys.settrace(called)
        try:
            call(thing)
        finally:
            sys.settrace(None)
            threading.settrace(None)
        place += 1
    assert place > 5


def prefixes():
    """Both get their bits, and what is kept stays within its bound."""
    model, plain = (gemmule.load(FIXTURES / "mobile", threads=1, prefix_cache=size) for size in (150_000, 0))
    shared, *others = (np.random.default_rng(seed).integers(3, 250, 90, dtype=np.int32) for seed in range(8))
    alike = [np.concatenate([shared, other]) for other in others]
    want = {prompt.tobytes(): said(plain.generate(prompt, **ASKED)) for prompt in (*alike, *others)}

    def ask(prompt):
        assert said(model.generate(prompt, **ASKED)) == want[prompt.tobytes()]
        assert model._prefixes.bytes <= 150_000

    turns = cycle(alike)
    at_every_line({"prefixes.py"}, lambda: next(turns), ask, lambda _: [ask(other) for other in others])
    ask(alike[0])
    assert model.generate(alike[0], **ASKED).usage.cached_tokens > 0


def tokenizer():
    """It is opened for both, and stays the same."""
    got = []
    at_every_line(
        {"model.py", "tokenizer.py"},
        begin=lambda: gemmule.load("fairy", threads=1),
        call=lambda model: got.append((model.tokenizer, model.tokenizer)),
        meanwhile=lambda model: model.tokenizer.encode("Once"),
    )
    assert all(one is other for one, other in got)


def grammars():
    def ask(model):
        assert model.generate("Once", regex="yes|no", seed=1).text in ("yes", "no")

    at_every_line({"grammar.py"}, lambda: gemmule.load(FIXTURES / "mobile", threads=1), ask, ask)


def chat():
    """Another turn is refused, and forks have whole turns."""
    model = chat_model("mobile", "static")
    first = chat_model("mobile", "static", prefix_cache=0).chat("Be brief.")
    first.send("One.", **ASKED)
    second = first.fork()
    answer = said(second.send("Two.", **ASKED))
    want = {len(each.messages): said(each.fork().send("Three.", **ASKED)) for each in (first, second)}

    def begin():
        chat = model.chat("Be brief.")
        chat.send("One.", **ASKED)
        return chat, chat.stream("Left.", **ASKED)

    def call(thing):
        assert said(thing[0].send("Two.", **ASKED)) == answer

    def meanwhile(thing):
        chat, left = thing
        for more in (
            lambda: chat.send("Three."),
            lambda: next(left),
            left.close,
            chat.undo,
            lambda: chat.run("Three."),
        ):
            with pytest.raises(gemmule.ArgumentError, match="in use: the thread that asks"):
                more()
        twin = chat.fork()
        assert said(twin.send("Three.", **ASKED)) == want[len(chat.messages)]

    at_every_line({"chat.py", "rewinding.py", "generate.py"}, begin, call, meanwhile)


def scheduler():
    """On its thread, too; what would wait for that thread is refused there."""
    model = gemmule.load("fairy", threads=1)
    want = said(model.generate("So", **ASKED))
    refused = []

    def call(_):
        assert said(asyncio.run(model.agenerate("So", **ASKED))) == want
        for each in threading.enumerate():
            if each.name == "gemmule scheduler":
                each.join()

    def meanwhile(_):
        assert said(model.generate("So", **ASKED)) == want
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            try:
                assert said(asyncio.run(model.agenerate("So", **ASKED))) == want
            except gemmule.ArgumentError as error:
                refused.append(str(error))

    at_every_line({"scheduler.py"}, lambda: None, call, meanwhile)
    assert refused
    assert all("Use generate or stream in callbacks." in each for each in refused)


def collector():
    """A chat that is saved when it goes."""
    model, file = chat_model("mobile", "static"), new_folder() / "session.chat"
    saved = []

    class Session:
        def __init__(self):
            self.chat, self.self = model.chat(), self

        def __del__(self):
            self.chat.save(file)
            saved.append(model.load_chat(file).messages)

    gc.set_threshold(5)
    for _ in range(60):
        Session()
        model.generate("Hi there " * 30, **ASKED)
    gc.collect()  # not when Python ends: the folder is gone then
    assert saved


def handler():
    """Inside of the engine too, whose threads are busy with what the signal interrupted."""
    model = gemmule.load("fairy", threads=3)
    want = {prompt: said(model.generate(prompt, **ASKED)) for prompt in ("So", "Hi there " * 30)}
    got = []

    def handle(*_):
        got.append(said(model.generate("So", **ASKED)))
        signal.setitimer(signal.ITIMER_REAL, 0.002)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert said(model.generate("Hi there " * 30, **ASKED)) == want["Hi there " * 30]
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert got
    assert all(each == want["So"] for each in got)


def processor():
    """One that awaits another answer of the model is refused, and Python ends; generate answers it."""
    model = gemmule.load("fairy", threads=1)
    want = model.generate("So", **ASKED).tokens
    got = []

    def generates(ids, logits):
        got.append(
            [each.tokens for each in model.generate(["So", "So"], **ASKED)] + [model.generate("So", **ASKED).tokens]
        )

    def awaits(ids, logits):
        asyncio.run(model.agenerate("So", **ASKED))

    asyncio.run(model.agenerate("Hi", logits_processors=[generates], **ASKED))
    assert got == [[want] * 3] * 3
    with pytest.raises(gemmule.ArgumentError, match=r"holds up\nUse generate or stream in callbacks"):
        asyncio.run(model.agenerate("Hi", logits_processors=[awaits], **ASKED))


CASES = (prefixes, tokenizer, grammars, chat, scheduler, collector, handler, processor)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_in_the_midst_of_it(case):
    run = "import faulthandler, test_reentrance as tests; faulthandler.dump_traceback_later(tests.SECONDS, exit=True); "
    run += f"tests.{case.__name__}()"
    child = subprocess.run(
        [sys.executable, "-c", run], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=2 * SECONDS
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
