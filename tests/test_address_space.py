"""In too little memory everything ends in an exception that says so, and what was to be written is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chat_models import chat_folder
from golden_cases import FIXTURES

PROGRAM = Path(__file__).parent / "address_space.py"
LIMITS = [0, 100, 300, 600, 900, 1200, 1500, 1800, 2100, 2500, 8000, 60000]  # kilobytes

pytestmark = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer takes address space of its own"
)


@pytest.mark.parametrize("work", ["generate", "chat", "convert"])
def test_whatever_there_is(work, tmp_path):
    check(work, tmp_path, LIMITS)


def check(work: str, folder: Path, limits: list[int]) -> None:
    """Within every limit done or refused; both happen."""
    source = FIXTURES / ("e2b" if work == "convert" else "mobile")
    if work == "chat":
        # A template that is rendered by the helper: minijinja ends a process that has no memory.
        source = chat_folder("mobile", folder / "source")
        with (source / "chat_template.jinja").open("a") as template:
            template.write("{# of our own #}")
    out = folder / "out"
    out.mkdir()
    run = subprocess.run(
        [sys.executable, PROGRAM, work, source, out, *map(str, limits)],
        capture_output=True,
        text=True,
        timeout=30 + 2 * len(limits),
        check=False,
    )
    assert run.returncode == 0, run.stdout[-500:] + run.stderr[-3000:]
    ended = dict(line.split(maxsplit=1) for line in run.stdout.splitlines())
    assert list(ended) == list(map(str, limits))
    assert set(ended.values()) == {"refused", "done"}
