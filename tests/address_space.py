"""Does something in little address space, once with each of several limits, and checks how it ends.

    python address_space.py generate|chat|convert SOURCE FOLDER KILOBYTES [KILOBYTES ...]

SOURCE is a checkpoint, FOLDER takes what is written. A limit is what the process may have when everything is imported
and all memory that it has is in use. Within each the work is done, with the result that it has without a limit, or ends
in a GemmuleError, a MemoryError or an OSError that says so; what it writes is whole then, or not there. Prints for each
limit how it ended.
"""

import errno
import os
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gemmule

DONE, REFUSED, WRONG, OTHER = range(4)  # exit codes
SECONDS = 60  # after which the system ends an attempt
IDS = [(3 + 37 * i) % 600 for i in range(70)]
OPTIONS = {"temperature": 0, "ignore_eos": True, "logprobs": True}


def generate(source: Path, _: Path) -> str:
    """A prompt of two chunks and 32 tokens; then the same again, with what is kept of the prompt."""
    model = gemmule.load(source, threads=2)
    results = [model.generate(IDS, max_tokens=32, **OPTIONS) for _ in range(2)]
    assert results[0].tokens == results[1].tokens
    return repr((results[0].tokens, results[0].logprobs))


def chat(source: Path, folder: Path) -> str:
    """A turn, saved and loaded, and another turn."""
    model = gemmule.load(source, threads=2)
    first = model.chat()
    first.send("A tale about a fox.", max_tokens=8, **OPTIONS)
    first.save(folder / "saved")
    again = model.load_chat(folder / "saved")
    result = again.send("Go on.", max_tokens=8, **OPTIONS)
    return repr((result.tokens, result.logprobs))


def convert(source: Path, folder: Path) -> str:
    gemmule.convert(source, folder / "out.gguf", to="q4_0", threads=2)
    return (folder / "out.gguf").read_bytes().hex()


WORK = {"generate": generate, "chat": chat, "convert": convert}


def limited(kilobytes: int) -> list[bytearray]:
    """From here on there are so many kilobytes and no more, as long as the result is kept."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize()
    most = resource.RLIM_INFINITY
    taken = [bytearray(0)]
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    for bits in range(24, 9, -1):  # what was freed, in large pieces and small ones
        with suppress(MemoryError):
            while True:
                taken.append(bytearray(2**bits))
    resource.setrlimit(resource.RLIMIT_AS, (limit + 1024 * kilobytes, most))
    return taken


def attempt(work: Callable[[Path, Path], str], source: Path, folder: Path, kilobytes: int | None) -> int:
    """In a process of its own; its exit code. Without a limit the result becomes the one that is wanted."""
    folder.mkdir()
    wanted = folder.parent / "wanted"
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            if kilobytes is None:
                wanted.write_text(work(source, folder))
                os._exit(DONE)
            expected = wanted.read_text()
            taken = limited(kilobytes)
            result = work(source, folder)
            taken.clear()
            os._exit(DONE if result == expected else WRONG)
        except (gemmule.GemmuleError, MemoryError):
            os._exit(REFUSED)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno == errno.ENOMEM:  # Python's own for a call of the system
                os._exit(REFUSED)
            traceback.print_exc()
            os._exit(OTHER)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_written(folder: Path, whole: Path) -> None:
    """All that is there has its name, and its whole content."""
    for file in folder.iterdir():
        assert file.read_bytes() == (whole / file.name).read_bytes(), file


def main(work: str, source: str, folder: str, *limits: str) -> None:
    whole = Path(folder) / "whole"
    assert attempt(WORK[work], Path(source), whole, None) == DONE
    for limit in limits:
        own = Path(folder) / limit
        code = attempt(WORK[work], Path(source), own, int(limit))
        print(limit, {DONE: "done", REFUSED: "refused"}.get(code, f"ended with {code}"), flush=True)
        assert code in (DONE, REFUSED), f"{limit} KB: {code}"
        check_written(own, whole)


main(*sys.argv[1:])
