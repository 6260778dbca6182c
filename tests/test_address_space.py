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


MAPPED = """
import resource, sys, gemmule
resource.setrlimit(resource.RLIMIT_AS, (2**34, resource.RLIM_INFINITY))
try:
    gemmule.load(sys.argv[1])
except gemmule.ResourceError as error:
    print(error.file, error.message, error.remedy, sep="\\n")
"""


def test_a_file_that_is_larger_than_all_of_it(tmp_path):
    (tmp_path / "config.json").write_bytes((FIXTURES / "e2b" / "config.json").read_bytes())
    file = tmp_path / "model.safetensors"
    with file.open("wb") as sparse:
        sparse.truncate(2**36)
    child = subprocess.run(
        [sys.executable, "-c", MAPPED, tmp_path], capture_output=True, text=True, timeout=60, check=True
    )
    name, problem, remedy = child.stdout.splitlines()
    assert name == str(file)
    assert problem == f"{file}: the file cannot be mapped: Cannot allocate memory"
    assert remedy == "End other programs, or raise the limit of address space (ulimit -v)."
