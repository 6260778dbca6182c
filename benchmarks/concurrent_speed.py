"""How fast concurrent tasks get their answers, beside one after the other and a list of prompts.

    python benchmarks/concurrent_speed.py [--model PATH] [--together N] [--tokens N] [--repeat N] [--threads N]
                                          [--json FILE]

All three take turns. Also: how long a stream has to wait for its next piece at most, alone and while the prompt of
another task is read. Exits with 1 where the answers differ.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import gemmule
import program
from conditions import conditions
from gemmule.benchmark import Samples

PROMPT_TOKENS = 16
LONG_PROMPT_TOKENS = 512


def main() -> int:
    options = parse_options()
    context = LONG_PROMPT_TOKENS + options.tokens + 8
    model = gemmule.load(options.model, threads=options.threads, context=context, prefix_cache=0)
    source = random.Random(0)
    prompts = [[source.randrange(model.vocab_size) for _ in range(PROMPT_TOKENS)] for _ in range(options.together)]
    asked = {"max_tokens": options.tokens, "ignore_eos": True, "seed": 1}

    async def tasks() -> list[gemmule.Result]:
        return await asyncio.gather(*(model.agenerate(prompt, **asked) for prompt in prompts))

    ways: dict[str, Callable[[], list[gemmule.Result]]] = {
        "one after the other": lambda: [model.generate(prompt, **asked) for prompt in prompts],
        "tasks": lambda: asyncio.run(tasks()),
        "list of prompts": lambda: model.generate(prompts, **asked),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    texts = set()
    for turn in range(options.repeat + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            results = way()
            seconds = time.perf_counter() - begin
            texts.add(tuple(tuple(result.tokens) for result in results))
            if turn > 0:  # the first one warms up
                speeds[name].append(options.together * options.tokens / seconds)
    speeds["ratio"] = [one / other for one, other in zip(speeds["tasks"], speeds["one after the other"], strict=True)]
    long = [source.randrange(model.vocab_size) for _ in range(LONG_PROMPT_TOKENS)]
    waits = {
        name: asyncio.run(longest_wait(model, prompts[0], other))
        for name, other in (("alone", None), ("beside a prompt", long))
    }
    report: dict[str, Any] = {"conditions": conditions(), "threads": model.threads, "model": options.model}
    report |= {"together": options.together, "tokens": options.tokens, "same_results": len(texts) == 1}
    report |= {"tokens_per_second": {name: asdict(Samples.of(values)) for name, values in speeds.items()}}
    report |= {"longest_wait_ms": {name: 1e3 * seconds for name, seconds in waits.items()}}
    for name, values in speeds.items():
        samples = Samples.of(values)
        print(f"{name:20} {samples.median:9.2f} ({samples.least:.2f} - {samples.most:.2f})")
    print(*(f"longest wait for a piece, {name}: {1e3 * seconds:.1f} ms" for name, seconds in waits.items()), sep="\n")
    program.write(report, options.json)
    return 0 if len(texts) == 1 else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fairy")
    parser.add_argument("--together", type=int, default=8, help="tasks (default: 8)")
    parser.add_argument("--tokens", type=int, default=200, help="of each answer (default: 200)")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


async def longest_wait(model: gemmule.Model, prompt: list[int], other: list[int] | None) -> float:
    """Seconds between two pieces of a stream, at most; the other prompt joins it behind the tenth piece."""
    times, task = [], None
    async for _ in model.astream(prompt, max_tokens=40, ignore_eos=True, seed=1):
        times.append(time.perf_counter())
        if len(times) == 10 and other is not None:
            task = asyncio.create_task(model.agenerate(other, max_tokens=1))
    if task is not None:
        await task
    return max(later - earlier for earlier, later in pairwise(times[5:]))


if __name__ == "__main__":
    sys.exit(main())
