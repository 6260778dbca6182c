"""A thousand kills (SIGKILL) at random moments, from before the first write to behind the last: the old thing or the
new one is there, whole, and what is left beside it does the next run no harm."""

import pytest

import gemmule
from chat_models import chat_folder
from golden_cases import FIXTURES
from kills import converting, saving


def report(name, found):
    print(f"\n{name}: {dict(found)}")
    assert min(found["old"], found["new"], found["left something"]) > 20  # at moments of every kind


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_converting(kind, tmp_path):
    report(f"converting to a {kind}", converting(tmp_path, FIXTURES / "e2b", kind).kill(500, seed=3))


@pytest.mark.timeout(1800)
def test_saving(tmp_path):
    (tmp_path / "saved").mkdir()
    model = gemmule.load(chat_folder("mobile", tmp_path / "model"), threads=1, trust_template=True)
    report("saving a chat", saving(tmp_path / "saved", model).kill(1000, seed=4))
