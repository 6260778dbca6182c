"""Writes an output again and again, killed each time one system call later, and checks what is left.

    python killed_output.py FOLDER file|folder new|replaced exchange|steps

After a kill the target is what it was or what it is to be; only where names cannot be exchanged (steps) may a folder be
away until the next run. The next run, which fails, puts it back and leaves nothing else; the one after it succeeds.
Prints the number of kills, and how many of them left a replaced target away.
"""

import os
import signal
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

from gemmule.outputs import renaming
from gemmule.outputs.output import new_file, new_folder

# Audit events of calls that change what lies in a folder, or come next after one.
CALLS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "fcntl.flock", "ctypes.dlsym"}
OLD, NEW = b"old" * 1000, b"new" * 1000


def begin(target: Path, kind: str):
    if kind == "file":
        return new_file(target, len(NEW), sources=[], force=True)
    return new_folder(target, sources=[], force=True)


def write(target: Path, content: bytes, kind: str) -> None:
    with begin(target, kind) as part:
        if kind == "file":
            part.write(content)
        else:
            part.write("config.json", content)
            part.write("model.safetensors", content)


def fail(target: Path, kind: str) -> None:
    """A run that ends before it has written anything."""
    with suppress(ZeroDivisionError), begin(target, kind):
        raise ZeroDivisionError


def read(target: Path) -> bytes | None:
    """The content, which is the same in all files; None where there is nothing."""
    if not target.exists():
        return None
    if target.is_file():
        return target.read_bytes()
    files = {file.name: file.read_bytes() for file in target.iterdir()}
    assert set(files) == {"config.json", "model.safetensors"}, files.keys()
    (content,) = set(files.values())
    return content


def killed(target: Path, kind: str, calls: int) -> bool:
    """Writes NEW in a process that is killed before its call number `calls`. False where it made fewer calls."""
    child = os.fork()
    if child == 0:
        made = 0

        def kill(event: str, _) -> None:
            nonlocal made
            if event in CALLS:
                made += 1
                if made == calls:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        write(target, NEW, kind)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    return status != 0


def main(folder: str, kind: str, before: str, way: str) -> None:
    if way == "steps":
        renaming._renameat2 = lambda source, target, flag: False
    old = OLD if before == "replaced" else None
    allowed = {old, NEW} | ({None} if way == "steps" and kind == "folder" else set())
    away = 0
    for calls in count(1):
        place = Path(folder) / str(calls)
        place.mkdir()
        target = place / "out"
        if old:
            write(target, old, kind)
        was_killed = killed(target, kind, calls)
        left = read(target)
        assert left in (allowed if was_killed else {NEW}), (calls, left)
        away += old is not None and left is None
        fail(target, kind)
        assert read(target) == (old if left is None else left), calls
        assert list(place.iterdir()) == ([target] if target.exists() else []), calls
        write(target, NEW, kind)
        assert read(target) == NEW, calls
        assert list(place.iterdir()) == [target], calls
        if not was_killed:
            break
    print(calls - 1, away)


main(*sys.argv[1:])
