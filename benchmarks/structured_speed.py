"""How fast answers of a certain structure come, beside free text, and what their masks take.

    python benchmarks/structured_speed.py [--model PATH] [--tokens N] [--repeat N] [--threads N] [--json FILE]

Free text and each structure take turns. Structures are long ones, so that every answer has the same number of tokens.
Needs the package llguidance (pip install 'gemmule[structured]'). Exits with 1 where an answer does not fit.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gemmule
import program
from conditions import conditions
from gemmule.benchmark import Samples
from gemmule.generation.generate import Generation

WORDS = r"[a-z]+( [a-z]+){5000}\."
COUNTED = r"[A-Za-z ,;]{20000,50000}\."
OBJECT = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 200},
        "kind": {"enum": ["king", "fox", "witch"]},
        "friends": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3},
    },
    "required": ["name", "age", "kind", "friends"],
    "additionalProperties": False,
}
# What is asked for, and a test of its beginning.
CASES: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "schema": (
        {"schema": {"type": "array", "items": OBJECT, "minItems": 5000}},
        lambda text: all(json.loads(each).keys() == OBJECT["properties"].keys() for each in objects(text)),
    ),
    "regex": ({"regex": WORDS}, lambda text: re.fullmatch("[a-z]+( [a-z]+)* ?", text) is not None),
    "counted regex": ({"regex": COUNTED}, lambda text: re.fullmatch("[A-Za-z ,;]*", text) is not None),
    "grammar": (
        {"grammar": 'start: ("(" start ")" | /[a-z]+/ | /[0-9]{1,4}/){5000}'},
        lambda text: re.fullmatch("[a-z0-9()]*", text) is not None,
    ),
}


def main() -> int:
    options = parse_options()
    model = gemmule.load(options.model, threads=options.threads, context=options.tokens + 64)
    begin = time.perf_counter()
    model.generate("A king", regex="a")
    report = {"conditions": conditions(), "threads": model.threads, "vocabulary": model.vocab_size}
    report |= {"model": options.model, "tokens": options.tokens, "first_seconds": time.perf_counter() - begin}
    print(f"{options.model}: {model.vocab_size} tokens, described in {report['first_seconds']:.2f} s")
    report["cases"] = {}
    for name, (asked, fits) in CASES.items():
        case, ok = measure(model, asked, fits, options)
        report["cases"][name] = case | {"fits": ok}
        print(
            f"{name:14} {case['tokens_per_second']['median']:8.1f} tokens/s, free {case['free']['median']:8.1f},"
            f" ratio {case['ratio']['median']:.3f} ({case['ratio']['least']:.3f} - {case['ratio']['most']:.3f}),"
            f" masks {case['mask_us']['median']:6.1f} us a token" + ("" if ok else "  DOES NOT FIT")
        )
    program.write(report, options.json)
    return 0 if all(case["fits"] for case in report["cases"].values()) else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fairy", help="with a tokenizer (default: fairy)")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure(
    model: gemmule.Model, asked: dict[str, Any], fits: Callable[[str], bool], options: argparse.Namespace
) -> tuple[dict[str, Any], bool]:
    """Speeds of free text and of the structure, in turn; the mean time of a mask in each answer; whether all fit."""
    speeds, free, masks, ok = [], [], [], True
    for seed in range(options.repeat):
        length = {"max_tokens": options.tokens, "seed": seed}
        free.append(model.generate("A king", ignore_eos=True, **length).usage.tokens_per_second)
        with TimedMasks() as timed:
            result = model.generate("A king", **length, **asked)
        speeds.append(result.usage.tokens_per_second)
        masks.append(1e6 * timed.seconds / len(result.tokens))
        ok &= len(result.tokens) == options.tokens and fits(result.text)
    ratios = [one / other for one, other in zip(speeds, free, strict=True)]
    samples = {"tokens_per_second": speeds, "free": free, "ratio": ratios, "mask_us": masks}
    return {name: asdict(Samples.of(values)) for name, values in samples.items()}, ok


class TimedMasks:
    """Adds up what the grammars take between a step's logits and the choice of its token."""

    def __enter__(self) -> TimedMasks:
        self.seconds, self._original = 0.0, Generation.allowed
        Generation.allowed = self._allowed(Generation.allowed)
        return self

    def __exit__(self, *_: object) -> None:
        Generation.allowed = self._original

    def _allowed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def timed(run: Generation, logits: Any) -> Any:
            begin = time.perf_counter()
            result = original(run, logits)
            self.seconds += time.perf_counter() - begin
            return result

        return timed


def objects(text: str) -> list[str]:
    """The whole objects in the beginning of a list of flat ones."""
    return re.findall(r'\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\}', text)


if __name__ == "__main__":
    sys.exit(main())
