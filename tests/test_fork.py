"""Forked children: the same bits on one thread, one warning, and nothing that waits for the parent's threads."""

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import gemmule
from chat_models import chat_folder
from golden_cases import read_case

ASKED = {"seed": 3, "max_tokens": 12, "ignore_eos": True, "logprobs": True}
SYSTEM = "Be brief. " * 20  # long enough to be kept

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # Python 3.12, of os.fork


def in_child(work, seconds=20):
    """What `work` gives in a forked child: it ends in time, and without a crash."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)  # a child that hangs is ended
        code = 1
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                said = work()
            os.write(write, pickle.dumps((said, [str(each.message) for each in warned])))
            code = 0
        except BaseException as error:
            os.write(write, pickle.dumps((f"{type(error).__name__}: {error}", [])))
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        data = answer.read()
    status = os.waitpid(child, 0)[1]
    assert not os.WIFSIGNALED(status), f"ended by signal {os.WTERMSIG(status)}"
    return pickle.loads(data)


@pytest.fixture
def model(tmp_path):
    return gemmule.load(chat_folder("mobile", tmp_path / "model"), threads=3, trust_template=True)


def said(result):
    return result.tokens, result.logprobs


def test_one_warning_and_the_same_bits():
    case = read_case("e2b")
    model = gemmule.load(case.folder, threads=4)
    want = model.logits(case.ids)
    equal, warned = in_child(lambda: [np.array_equal(model.logits(case.ids), want) for _ in range(3)])
    assert equal == [True] * 3
    (warning,) = warned
    assert "a fork of the one that loaded the model" in warning
    assert '"spawn"' in warning


def test_no_warning_in_the_parent(model, recwarn):
    in_child(lambda: model.logits([2, 5]))
    model.logits([2, 5])
    assert not [each for each in recwarn if each.category is RuntimeWarning]


def test_a_warning_that_is_an_error():
    """It comes once; then the model works."""
    case = read_case("e2b")
    model = gemmule.load(case.folder, threads=2)
    want = model.logits(case.ids)

    def work():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="spawn"):
            model.logits(case.ids)
        return np.array_equal(model.logits(case.ids), want)

    assert in_child(work) == (True, [])


def test_everything_of_a_model_in_a_child(model, tmp_path):
    def work():
        chat = model.chat(SYSTEM)
        results = [chat.send("A fox?", **ASKED), chat.fork().send("And then?", **ASKED)]
        results += model.generate([[2, 5, 7], [2, 9]], **ASKED)
        results.append(model.generate("A fox", regex="[a-z ]{4,9}", seed=3))
        chat.save(tmp_path / f"{os.getpid()}.chat")
        results.append(model.load_chat(tmp_path / f"{os.getpid()}.chat").send("Go on.", **ASKED))

        async def main():
            return await asyncio.gather(*(model.agenerate([2, place], **ASKED) for place in range(3, 7)))

        return [said(each) for each in results + asyncio.run(main())]

    want = work()
    got, warned = in_child(work)
    assert got == want
    assert len(warned) == 1
    assert work() == want


def test_a_chat_goes_on_in_both(model):
    chat = model.chat(SYSTEM)
    chat.send("A fox?", **ASKED)
    got, _ = in_child(lambda: said(chat.send("And then?", **ASKED)))
    assert said(chat.send("And then?", **ASKED)) == got


def test_a_model_loaded_in_the_child_has_threads():
    """Also once the inherited one is gone, whose threads' names the system may have given to the new ones."""
    case = read_case("mobile")

    def load():
        return gemmule._core.Model.load(str(case.folder), 3, 0, "auto", "auto")

    def threads():
        return len(list(Path("/proc/self/task").iterdir()))

    inherited = load()
    want = gemmule._core.Decoder(inherited).logits(case.ids)

    def work():
        nonlocal inherited
        new = load()
        inherited = None
        equal = np.array_equal(gemmule._core.Decoder(new).logits(case.ids), want)
        with_threads = threads()
        del new
        return equal, with_threads, threads()

    assert in_child(work) == ((True, 3, 1), [])


def test_a_child_of_a_child(model):
    want = said(model.generate([2, 5], **ASKED))
    (inner, warned_inner), warned = in_child(
        lambda: (model.generate([2, 5], **ASKED), in_child(lambda: said(model.generate([2, 5], **ASKED))))[1]
    )
    assert inner == want
    assert len(warned) == len(warned_inner) == 1


class Busy:
    """Threads that keep everything of a model in use."""

    def __init__(self, model):
        self.model = model
        self.chat = model.chat(SYSTEM)
        self.want = self.work()
        self.stop = False
        works = [self.work, self.load, self.talk, self.ask, lambda: model.logits(list(range(2, 200)))]
        self.threads = [threading.Thread(target=self.repeat, args=(work,)) for work in works]

    def work(self):
        results = self.model.chat(SYSTEM).send("A fox?", **ASKED), self.model.generate([2, 5, 9] * 9, **ASKED)
        return [said(each) for each in results]

    def talk(self):
        self.chat.send("And?", **ASKED)
        self.chat.undo()

    def load(self):
        gemmule.load(self.model._folder, threads=2, trust_template=True).chat().send("A fox?", **ASKED)

    def ask(self):
        async def main():
            await asyncio.gather(*(self.model.agenerate([2, place], **ASKED) for place in range(3, 9)))

        asyncio.run(main())

    def repeat(self, work):
        while not self.stop:
            work()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stop = True
        for thread in self.threads:
            thread.join()


def test_forks_while_other_threads_are_in_the_middle(model):
    with Busy(model) as busy:
        for _ in range(20):
            time.sleep(0.01)
            got, _ = in_child(busy.work)
            assert got == busy.want


def test_a_chat_that_another_thread_is_in(model):
    """It cannot be used in the child, which says so; others can."""
    chat, go, thinks = model.chat(SYSTEM), threading.Event(), threading.Event()

    def wait(ids, logits):
        thinks.set()
        assert go.wait(20)

    thread = threading.Thread(target=lambda: chat.send("A fox?", logits_processors=[wait], max_tokens=2))
    thread.start()
    assert thinks.wait(20)

    def work():
        with pytest.raises(gemmule.ArgumentError, match=r'another thread when the process was forked\n.*"spawn"'):
            chat.send("Hi")
        return said(model.chat(SYSTEM).send("A fox?", **ASKED))

    got, _ = in_child(work)
    go.set()
    thread.join()
    assert got == said(model.chat(SYSTEM).send("A fox?", **ASKED))
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant"]


def test_requests_stay_with_the_parent(model):
    """A child that asks for something of its own does not do its parent's work too."""

    async def main():
        mine = [asyncio.create_task(model.agenerate([2, place], **ASKED)) for place in range(3, 70)]
        while not model._scheduler._waiting:  # more than are under way at a time
            await asyncio.sleep(0.001)
        got = in_child(lambda: (len(model._scheduler._waiting), model._scheduler._thread is None))
        return got, [said(each) for each in await asyncio.gather(*mine)]

    (left, _), results = asyncio.run(main())
    assert left == (0, True)
    assert results == [said(model.generate([2, place], **ASKED)) for place in range(3, 70)]


def test_a_template_rendered_while_the_process_is_forked(tmp_path):
    """The child keeps the ends of its parent's pipes: the helper must not wait for them to be closed."""
    model = gemmule.load(chat_folder("mobile", tmp_path / "model"))
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text(template.read_text() + "{# another one #}")
    tokenizer = gemmule.load(tmp_path / "model").tokenizer
    del model
    times = []

    def render():
        for _ in range(5):
            begin = time.monotonic()
            tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}])
            times.append(time.monotonic() - begin)

    thread = threading.Thread(target=render)
    thread.start()
    children = []
    while thread.is_alive():
        child = os.fork()
        if child == 0:
            time.sleep(15)
            os._exit(0)
        children.append(child)
        time.sleep(0.01)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(times) == 5
    assert max(times) < 8


def _pooled(ids):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        return said(_MODEL.generate(ids, **ASKED)), len(warned)


_MODEL = None


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method, model):
    global _MODEL
    _MODEL = model
    prompts = [[2, place] for place in range(3, 9)]
    begin = (_load, (str(model._folder),)) if method == "spawn" else ()
    with multiprocessing.get_context(method).Pool(2, *begin) as pool:
        answers = pool.map(_pooled, prompts, chunksize=3)
    assert [answer for answer, _ in answers] == [said(model.generate(ids, **ASKED)) for ids in prompts]
    assert sum(warned for _, warned in answers) == (2 if method == "fork" else 0)


def _load(folder):
    global _MODEL
    _MODEL = gemmule.load(folder, threads=2)
