"""How fast text comes with drafts, beside plain decoding, and what a pass over several tokens costs.

    python benchmarks/drafting_speed.py [--model PATH] [--mtp PATH] [--tokens N] [--repeat N] [--json FILE]

Passes over several tokens and over one take turns. So do drafts and plain decoding, on one prompt after the other,
greedy and sampled; speeds are of whole calls. Exits with 1 where drafts change a text.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gemmule
import program
from conditions import conditions
from gemmule import _core
from spread import summary

PROMPTS = (
    "Once upon a time there was a king",
    "The old witch looked at the boy and said,",
    "There was once a poor woodcutter",
    "The fox said to the hen:",
    "In a far country, beyond the sea,",
    "The youngest of the three brothers",
    "'Dear mother,' cried the princess,",
    "When winter came",
)
PASSES = (2, 3, 4, 5, 6, 7, 8, 12, 16)  # tokens
BEHIND = 300  # tokens
DRAFTS = 4  # made in a row


def main() -> int:
    options = parse_options()
    model = gemmule.load(options.model, mtp=options.mtp, threads=options.threads)
    report = {"conditions": conditions(), "threads": model.threads, "model": options.model, "mtp": options.mtp}
    report["passes"] = passes(model, options.repeat)
    for name, ratio in report["passes"].items():
        print(f"{name:18} {spread(ratio)} of a pass over one")
    report["texts"] = {}
    for name, settings in {"greedy": {"temperature": 0}, "sampled": {}}.items():
        for draft in ["auto"] * (options.mtp is not None) + ["prompt-lookup"]:
            case = texts(model, settings, draft, options)
            report["texts"][f"{name}, {draft}"] = case
            print(
                f"{name:7} {draft:13} {case['speed']['median']:.0f} tokens/s, plain {case['plain']['median']:.0f}, "
                f"ratio {spread(case['ratio'])}, usage says {spread(case['speed_up'])}, "
                f"{case['accepted']} of {case['drafted']} drafts right" + ("" if case["equal"] else ", ANOTHER TEXT")
            )
    program.write(report, options.json)
    return 0 if all(case["equal"] for case in report["texts"].values()) else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fairy", help="with a tokenizer (default: fairy)")
    parser.add_argument("--mtp", help='its drafter, or "auto" (default: none)')
    parser.add_argument("--tokens", type=int, default=300, help="of each text (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def spread(figures: dict[str, Any]) -> str:
    return "{:.2f} ({:.2f} - {:.2f})".format(figures["median"], *figures["quartiles"])


def passes(model: gemmule.Model, repeat: int) -> dict[str, Any]:
    """What passes over several tokens take, and what a draft takes, relative to a pass over one."""
    random = np.random.default_rng(0)
    tokens = random.integers(3, model.vocab_size, max(BEHIND, *PASSES)).astype(np.int32)
    decoder = _core.Decoder(model._core)
    decoder.prefill(tokens[:BEHIND])
    drafter = None if model._draft_model is None else _core.Drafter(model._draft_model)
    ratios: dict[str, list[float]] = {}
    for _ in range(10 * repeat):
        seconds = {}
        for count in (1, *PASSES):
            _, seconds[f"{count} tokens"] = timed(lambda: decoder.logits(tokens[:count]))  # noqa: B023  called at once
            decoder.rewind(BEHIND)
        if drafter is not None:
            decoder.prefill(tokens[:1])
            _, taken = timed(lambda: drafter.draft(decoder, 5, DRAFTS))
            seconds["a draft"] = taken / DRAFTS
            decoder.rewind(BEHIND)
        one = seconds.pop("1 tokens")
        for name, taken in seconds.items():
            ratios.setdefault(name, []).append(taken / one)
    return {name: summary(values) for name, values in ratios.items()}


def texts(model: gemmule.Model, settings: dict[str, Any], draft: str, options: argparse.Namespace) -> dict[str, Any]:
    """Speeds with drafts and without, in turn, and what came of the drafts."""
    speeds, plain, said, drafted, accepted, equal = [], [], [], 0, 0, True
    for turn in range(options.repeat):
        for prompt in PROMPTS:
            length = {"max_tokens": options.tokens, "ignore_eos": True, "seed": turn}
            wanted, seconds = timed(lambda: model.generate(prompt, draft=None, **settings, **length))  # noqa: B023
            plain.append(options.tokens / seconds)
            result, seconds = timed(lambda: model.generate(prompt, draft=draft, **settings, **length))  # noqa: B023
            speeds.append(options.tokens / seconds)
            said.append(result.usage.speed_up)
            drafted += result.usage.drafted_tokens
            accepted += result.usage.accepted_tokens
            equal &= result.tokens == wanted.tokens
    ratios = [one / other for one, other in zip(speeds, plain, strict=True)]
    samples = {"speed": speeds, "plain": plain, "ratio": ratios, "speed_up": said}
    summed = {name: summary(values) for name, values in samples.items()}
    return summed | {"drafted": drafted, "accepted": accepted, "equal": equal}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
