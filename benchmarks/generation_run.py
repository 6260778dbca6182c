"""Loads a checkpoint and generates, in a process of its own so that its peak memory is that of gemmule alone.

Run by end_to_end.py: one argument, a JSON object with the fields of `Plan`; prints a JSON object, see `run`.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import gemmule
from gemmule.checkpoints.memory import own_bytes

CHECKED_TOKENS = 8  # of the prompt: their logits are looked at


@dataclass(frozen=True)
class Plan:
    """What to run. prompt_tokens are read at once, then decode_tokens are made one by one; threads None: default."""

    folder: str
    threads: int | None
    kv: str
    prompt_tokens: int
    decode_tokens: int
    repeat: int
    seed: int


def run(plan: Plan) -> dict[str, Any]:
    """Times and memory. Lists have one value for each repetition; a first one, the warm-up, is not in them."""
    load_seconds = []
    for _ in range(plan.repeat + 1):
        begin = time.perf_counter()
        model = load(plan)
        load_seconds.append(time.perf_counter() - begin)

    prompt = np.random.default_rng(plan.seed).integers(3, model.vocab_size, plan.prompt_tokens)
    results, anonymous, mapped = [], [], []
    for _ in range(plan.repeat + 1):
        # The first new token comes out of the prompt, so one more is asked for than are decoded.
        results.append(model.generate(prompt, max_tokens=plan.decode_tokens + 1, temperature=0, ignore_eos=True))
        anonymous.append(own_bytes("RssAnon"))
        mapped.append(own_bytes("RssFile"))

    peak = own_bytes("VmHWM")  # before the checks, which need memory of their own
    return {
        "load_seconds": load_seconds[1:],
        "prefill_seconds": [result.usage.prefill_seconds for result in results[1:]],
        "decode_seconds": [result.usage.decode_seconds for result in results[1:]],
        "peak_resident_bytes": peak,
        "anonymous_bytes": max(anonymous),
        "file_bytes": max(mapped),
        "cpu": gemmule.cpu(),
        "threads": model.threads,
        "activations": model.info["activations"],
        "kv": model.info["kv"],
        "checks": check(model, prompt, [result.tokens for result in results]),
    }


def load(plan: Plan) -> gemmule.Model:
    context = plan.prompt_tokens + plan.decode_tokens + 1
    return gemmule.load(plan.folder, threads=plan.threads, context=context, kv=plan.kv, prefix_cache=0)


def check(model: gemmule.Model, prompt: np.ndarray[Any, Any], rounds: list[list[int]]) -> dict[str, bool]:
    """What must hold if the answer is one: a fast model that computes nonsense is of no use."""
    start = prompt[:CHECKED_TOKENS]
    logits = model.logits(start)
    first = model.generate(start, max_tokens=1, temperature=0, ignore_eos=True).tokens[0]
    return {
        "logits are finite": bool(np.isfinite(logits).all()),
        "logits differ from token to token": bool((logits.std(axis=1) > 0.01).all()),
        "the first greedy token is the largest logit": first == int(logits[-1].argmax()),
        "every repetition gives the same tokens": all(tokens == rounds[0] for tokens in rounds),
    }


if __name__ == "__main__":
    print(json.dumps(run(Plan(**json.loads(sys.argv[1])))))
