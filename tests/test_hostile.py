"""Files from strangers: each of many lies is an exception of the right kind that names file and tensor or key,
what was expected and what was found. It comes within a tenth of a second, takes little memory, and prints nothing.

The cases are in hostile/, a file for each family; they are made anew for each run.
"""

import time
from contextlib import suppress
from pathlib import Path

import pytest

from gemmule.errors import GemmuleError
from hostile import config_cases, gguf_cases, gguf_model_cases, index_cases, safetensors_cases
from hostile.case import LOOKS, Case
from memory_peak import peak_growth

SECONDS, BYTES = 0.1, 64e6

FAMILIES = (safetensors_cases, index_cases, gguf_cases, gguf_model_cases, config_cases)
CASES = [
    pytest.param(case, id=f"{family.__name__.removeprefix('hostile.').removesuffix('_cases')}: {case.name}")
    for family in FAMILIES
    for case in family.cases()
]


def refusal(call, path: Path) -> GemmuleError:
    with pytest.raises(GemmuleError) as caught:
        call(str(path))
    return caught.value


def test_there_are_many():
    assert len(CASES) >= 100
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES)
def test_is_refused(case: Case, tmp_path, capfd):
    path = case.write(tmp_path)
    case.check(refusal(case.open, path), tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("case", CASES)
def test_soon_and_in_little_memory(case: Case, tmp_path):
    """The least of three times, because the machine has other things to do."""
    path = case.write(tmp_path)
    growth = peak_growth(lambda: refusal(case.open, path))
    assert growth < BYTES
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        refusal(case.open, path)
        times.append(time.perf_counter() - begin)
        if times[-1] < SECONDS:
            return
    assert min(times) < SECONDS


@pytest.mark.parametrize("case", CASES)
def test_to_those_who_only_look(case: Case, tmp_path, capfd):
    """Those that look at a checkpoint without running it may see nothing wrong. They do not fail in another way."""
    path = case.write(tmp_path)
    for look in LOOKS:
        begin = time.process_time()
        with suppress(GemmuleError):
            str(look(path))
        assert time.process_time() - begin < 2
    assert capfd.readouterr() == ("", "")
