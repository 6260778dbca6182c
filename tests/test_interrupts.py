"""Some interrupts (Ctrl-C) of everything that takes time; tests/slow has hundreds of each."""

import gc
import random
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import gemmule
from chat_models import chat_folder, chat_model
from fakes import TOKENIZER, fake_model
from gemmule.progress import Progress
from interrupts import KINDS, interrupt


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c(kind, tmp_path):
    """Within 200 ms on a free machine; the bound leaves room for a busy one. Texts are as before."""
    (tmp_path / "written").mkdir()
    place = chat_folder("e2b" if kind == "convert" else "mobile", tmp_path / "model")
    found = interrupt(place, tmp_path / "written", kind, times=5, seed=1)
    assert max(found.seconds) < 2
    written = {"convert": {"[]", "['out.gguf']"}, "save": {"['a.chat']"}}.get(kind, {"[]"})
    assert found.left <= written


def test_a_chat_that_was_interrupted_is_free_for_all_threads():
    chat = fake_model(TOKENIZER, lambda ids: 299).chat()
    source = random.Random(1)
    armed = False

    class Stop(BaseException):
        pass

    def stop(number, frame):
        if armed:
            raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with ThreadPoolExecutor(1) as another:
            for _ in range(500):
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, source.uniform(1e-6, 3e-4))
                    while True:
                        chat.fork()
                except Stop:
                    armed = False
                another.submit(chat.fork).result()
                chat.undo() if chat.messages else chat.send("Hi", max_tokens=1)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_bar_that_nobody_sees_is_none(monkeypatch):
    """While Python does away with one of tqdm's, by a call of Python's, Ctrl-C would be lost."""
    monkeypatch.delattr("gemmule.progress.tqdm")
    with Progress(10, "B", wanted=False) as bar:
        bar.advance(10, "a tensor")


def test_objects_that_go_run_no_python():
    """Likewise: models and chats that nobody uses any more."""
    model = chat_model("mobile", "static")
    ran = []

    def note(frame, event, argument):
        if event == "call":
            ran.append(frame.f_code.co_name)

    new = gemmule.load(model._folder, threads=1, trust_template=True)
    things = [new, new.chat(), new.chat().fork()]
    gc.collect()
    others, gc.callbacks[:] = gc.callbacks[:], []  # hypothesis has one
    sys.setprofile(note)
    try:
        del new, things
        gc.collect()
    finally:
        sys.setprofile(None)
        gc.callbacks[:] = others
    assert ran == []
