"""Interrupts programs with Ctrl-C (SIGINT) at random moments, and measures how long each takes to notice.

As a program: `python interrupts.py CHECKPOINT FOLDER KIND`. It does KIND again and again until it is interrupted, says
when (seconds of the monotonic clock, which is the same for all processes) and whether the model still says the same,
and begins again, until its input ends.
"""

import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KINDS = ("load", "prefill", "decode", "batch", "draft", "convert", "save")


def works(place, folder):
    """What can be interrupted, by its name, and a text that must stay the same."""
    import gemmule

    model = gemmule.load(place, trust_template=True)
    prompt = [2, *range(10, 210)]
    told = {"temperature": 0, "max_tokens": 6, "ignore_eos": True}

    def load():
        gemmule.load(place).tokenizer  # noqa: B018

    def prefill():
        model.logits(prompt)

    def decode():
        model.generate([2, 11], max_tokens=200, ignore_eos=True)

    def batch():
        model.generate([[2, 11], [2, 12], [2, 13]], max_tokens=100, ignore_eos=True)

    def draft():
        model.generate([2, *[11, 12, 13] * 9], max_tokens=200, ignore_eos=True, draft="prompt-lookup")

    def convert():
        to = "q8_0" if place.is_file() else "q4_0"
        gemmule.convert(place, folder / "out.gguf", to=to, force=True, progress=False)

    chat = None

    def save():
        chat.save(folder / "a.chat")

    def text():
        said = [model.generate(prompt, **told).tokens]
        if chat is not None:
            said.append(model.load_chat(folder / "a.chat").messages if (folder / "a.chat").exists() else None)
            said.append(chat.fork().send("Go on.", **told).tokens)
        return said

    if sys.argv[3] == "save":
        chat = model.chat()
        chat.send("A tale about a fox. " * 20, **told)
        chat.save(folder / "a.chat")
    return {"load": load, "prefill": prefill, "decode": decode, "batch": batch, "draft": draft, "convert": convert,
            "save": save}[sys.argv[3]], text  # fmt: skip


def main() -> None:
    place, folder = Path(sys.argv[1]), Path(sys.argv[2])
    work, text = works(place, folder)
    want = text()
    armed = False

    def interrupt(number, frame):
        if armed:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    noticed = 0.0
    print("ready", flush=True)
    for _ in sys.stdin:
        try:
            armed = True
            print("armed", flush=True)
            while True:
                work()
        except KeyboardInterrupt:
            noticed = time.monotonic()
        armed = False
        print(noticed, text() == want, sorted(path.name for path in folder.iterdir()), flush=True)


@dataclass
class Interrupted:
    """Seconds from each signal to its exception."""

    seconds: list[float]
    left: set[str]  # files that were there afterwards

    def __str__(self) -> str:
        ordered = sorted(1000 * each for each in self.seconds)
        middle, high = ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100]
        return f"{len(ordered)} times: median {middle:.1f} ms, 95% within {high:.1f} ms, longest {ordered[-1]:.1f} ms"


@contextmanager
def killed(child: subprocess.Popen[str]) -> Iterator[None]:
    """Ends a child where the block fails, so that nobody waits for it."""
    try:
        yield
    except BaseException:
        child.kill()
        raise


def interrupt(place: Path, folder: Path, kind: str, times: int, seed: int, longest: float = 0.2) -> Interrupted:
    """So many interrupts of `kind`, each at most `longest` seconds after it began."""
    source = random.Random(seed)
    seconds, left = [], set()
    command = [sys.executable, __file__, str(place), str(folder), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child, killed(child):
        assert child.stdout.readline() == "ready\n"
        for _ in range(times):
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout.readline() == "armed\n"
            time.sleep(source.uniform(0, longest))
            begin = time.monotonic()
            child.send_signal(signal.SIGINT)
            assert select.select([child.stdout], [], [], 60)[0], f"an interrupt of {kind} was lost"
            noticed, same, files = child.stdout.readline().split(maxsplit=2)
            seconds.append(float(noticed) - begin)
            left.add(files.strip())
            assert same == "True", f"another text after {len(seconds)} interrupts of {kind}"
    assert child.returncode == 0
    return Interrupted(seconds, left)


if __name__ == "__main__":
    main()
