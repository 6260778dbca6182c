"""Some interrupts (Ctrl-C) of everything that takes time; tests/slow has hundreds of each."""

import gc
import sys

import pytest

import gemmule
from chat_models import chat_folder, chat_model
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
