"""Kills processes at random moments while they put one thing in the place of another, and looks at what is left."""

import os
import random
import re
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gemmule

LEFTOVER = re.compile(r"\.out\.([0-9a-f]{8}\.part|gemmule-aside)")


def content(target: Path) -> dict[str, bytes]:
    """What a file or folder holds."""
    if target.is_file():
        return {"": target.read_bytes()}
    return {file.name: file.read_bytes() for file in target.iterdir()}


class Writer:
    """Puts the one or the other of two things under the name "out" of a folder."""

    def __init__(self, folder: Path, write: Callable[[int, Path], None]) -> None:
        """write(i, target): puts thing i, 0 or 1, there, whatever is there."""
        self.folder, self.target, self._write = folder, folder / "out", write
        self.things, seconds = [], []
        for i in (0, 1):
            for _ in range(3):
                begin = time.monotonic()
                assert self.run(i, None) == 0
                seconds.append(time.monotonic() - begin)
                self.assert_clean()
            self.things.append(content(self.target))
        assert self.things[0] != self.things[1]
        self.seconds = statistics.median(seconds)

    def run(self, i: int, kill_after: float | None) -> int:
        """Writes thing i in a child, which is killed after so many seconds. Its status, as os.waitpid has it."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                self._write(i, self.target)
                code = 0
            finally:
                os._exit(code)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]

    def assert_clean(self) -> None:
        assert [path.name for path in self.folder.iterdir()] == ["out"]

    def kill(self, kills: int, seed: int) -> Counter[str]:
        """So many kills: what was under the name then, the old thing or the new one, and how many left something
        beside it, which the next run is to remove. A run that was too quick counts apart."""
        source = random.Random(seed)
        found: Counter[str] = Counter()
        there = 1
        while found["old"] + found["new"] < kills:
            status = self.run(1 - there, source.uniform(0, 1.2 * self.seconds))
            now = self.things.index(content(self.target))  # a whole one of the two
            if status == 0:
                assert now == 1 - there
                self.assert_clean()
                found["not killed"] += 1
            else:
                assert os.WIFSIGNALED(status), "the run failed"
                found["old" if now == there else "new"] += 1
            others = [path.name for path in self.folder.iterdir() if path.name != "out"]
            assert all(LEFTOVER.fullmatch(name) for name in others), others
            assert len(others) <= 1, others
            found["left something"] += len(others)
            there = now
        assert self.run(1 - there, None) == 0
        self.assert_clean()
        return found


def converting(folder: Path, source: Path, kind: str) -> Writer:
    """kind: "file" or "folder", that a checkpoint is converted to."""

    def write(i: int, target: Path) -> None:
        to = ("q4_0", "q8_0")[i] if kind == "file" else ("mobile", "w4a16")[i]
        gemmule.convert(source, target, to=to, force=True, progress=False, threads=1)

    return Writer(folder, write)


def saving(folder: Path, model: gemmule.Model) -> Writer:
    """A chat of few turns or one of more."""
    chat = model.chat("Be brief.")
    chat.send("A tale about a fox.", temperature=0, max_tokens=12, ignore_eos=True)
    longer = chat.fork()
    longer.send("And then? " * 20, temperature=0, max_tokens=12, ignore_eos=True)
    writer = Writer(folder, lambda i, target: (chat, longer)[i].save(target))
    for each in (chat, longer):
        each.save(folder / "out")
        assert model.load_chat(folder / "out").messages == each.messages
    return writer
