"""64 threads for ten minutes on one model, with a chat each, beside tasks of asyncio: everything is equal to what it is
alone, memory does not grow, and all ends well.

GEMMULE_SLOW_SECONDS: how long, in place of 600.
"""

import asyncio
import os
import random
import threading
import time
from pathlib import Path

import pytest

import gemmule
from chat_models import chat_folder

THREADS, LOOPS, TASKS = 64, 2, 6
SECONDS = float(os.environ.get("GEMMULE_SLOW_SECONDS", "600"))
SEEDS = range(24)  # what is said; each thread takes one after another, in an order of its own
SYSTEM = "Be brief. " * 20  # long enough to be kept, so that the chats share it
MOST_GROWTH = 24 << 20  # bytes, in the second half; a chat's leak would have made hundreds of MB by then


def said(result):
    return result.tokens, result.logprobs


def conversation(model, seed, folder):
    """A sampled turn; one stopped midway; a fork; a turn taken back; a file; a failing callback; a structure."""
    asked = {"seed": seed, "max_tokens": 8 + seed % 7, "ignore_eos": True, "logprobs": True}
    chat = model.chat(SYSTEM)
    results = [said(chat.send(f"A tale about a fox, please. {seed}", **asked))]
    answer = chat.stream("And then?", **asked)
    results.append([next(answer).token for _ in range(1 + seed % 5)])
    if seed % 2:
        answer.close()
    fork = chat.fork()
    results.append(said(fork.send("What did it learn? " * (seed % 9), **asked)))
    chat.send("Never mind.", **asked)
    chat.undo()

    def fail(ids, logits):
        raise LookupError("mine")

    with pytest.raises(LookupError):
        chat.send("Hm?", logits_processors=[fail], **asked)
    file = folder / f"{threading.get_ident()}.chat"
    chat.save(file)
    results.append(said(model.load_chat(file).send("Go on.", **asked)))
    results.append(said(chat.send("Go on.", **asked)))
    results += [said(each) for each in model.generate([[2, 5 + seed], list(range(2, 90))], **asked)]
    results.append(model.generate("A fox", regex="[a-z ]{3,9}", seed=seed).text)
    return results, chat.messages, fork.messages


def asked_of_tasks(seed):
    return {"seed": seed, "max_tokens": 20 + seed, "ignore_eos": True, "logprobs": True}


def resident():
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Run:
    def __init__(self, model, want, want_tasks, folder):
        self.model, self.want, self.want_tasks, self.folder = model, want, want_tasks, folder
        self.end = time.monotonic() + SECONDS
        self.errors, self.rounds, self.tasks, self.cancelled = [], 0, 0, 0
        self.lock = threading.Lock()

    @property
    def goes_on(self):
        return time.monotonic() < self.end and not self.errors

    def talk(self, number):
        source = random.Random(number)
        try:
            while self.goes_on:
                seed = source.choice(SEEDS)
                assert conversation(self.model, seed, self.folder) == self.want[seed], seed
                with self.lock:
                    self.rounds += 1
        except BaseException as error:
            self.errors.append(error)

    def loop(self, number):
        try:
            asyncio.run(self.ask(random.Random(1000 + number)))
        except BaseException as error:
            self.errors.append(error)

    async def ask(self, source):
        while self.goes_on:
            seeds = [source.choice(SEEDS) for _ in range(TASKS)]
            tasks = [asyncio.create_task(self.model.agenerate([2, 5, seed], **asked_of_tasks(seed))) for seed in seeds]
            await asyncio.sleep(source.uniform(0, 0.05))
            for task in source.sample(tasks, 2):
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for seed, result in zip(seeds, results, strict=True):
                if isinstance(result, asyncio.CancelledError):
                    self.cancelled += 1
                else:
                    assert said(result) == self.want_tasks[seed]
                    self.tasks += 1


@pytest.mark.timeout(SECONDS + 600)
def test_many_threads(tmp_path):
    folder = chat_folder("mobile", tmp_path / "model")
    plain = gemmule.load(folder, threads=1, trust_template=True, prefix_cache=0)
    want = {seed: conversation(plain, seed, tmp_path) for seed in SEEDS}
    want_tasks = {seed: said(plain.generate([2, 5, seed], **asked_of_tasks(seed))) for seed in SEEDS}
    model = gemmule.load(folder, threads=3, trust_template=True, prefix_cache=4_000_000, max_concurrent=8)
    before = threading.active_count()
    run = Run(model, want, want_tasks, tmp_path)
    threads = [threading.Thread(target=run.talk, args=(number,)) for number in range(THREADS)]
    threads += [threading.Thread(target=run.loop, args=(number,)) for number in range(LOOPS)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    sizes = []
    while run.goes_on:
        time.sleep(min(2, SECONDS / 20))
        sizes.append(resident())
        print(f"{time.monotonic() - begin:5.0f} s: {sizes[-1] >> 20} MB, {run.rounds} conversations", flush=True)
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    print(f"{run.rounds} conversations, {run.tasks} tasks, {run.cancelled} cancelled")
    assert not run.errors, run.errors[0]
    assert run.rounds > len(SEEDS)
    assert run.tasks > 0 < run.cancelled
    half = len(sizes) // 2
    assert max(sizes[half:]) - max(sizes[:half]) < MOST_GROWTH, [size >> 20 for size in sizes]
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before, threading.enumerate()
