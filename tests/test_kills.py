"""Some kills at random moments of a conversion and of saving a chat; tests/slow has a thousand of each."""

import pytest

import gemmule
from chat_models import chat_folder
from golden_cases import FIXTURES
from kills import converting, saving


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_converting(kind, tmp_path):
    found = converting(tmp_path, FIXTURES / "e2b", kind).kill(12, seed=1)
    assert found["old"] + found["new"] == 12


def test_saving(tmp_path):
    (tmp_path / "saved").mkdir()
    model = gemmule.load(chat_folder("mobile", tmp_path / "model"), threads=1, trust_template=True)
    found = saving(tmp_path / "saved", model).kill(24, seed=2)
    assert found["old"] + found["new"] == 24
