"""How fast one thread encodes rows of weights, in GB of bfloat16 weights a second.

    python benchmarks/encode_speed.py [--rows N] [--cols K] [--repeat N] [--json FILE]

Rows lie in the cache as float32, so that this is the kernel alone. Times are those of the processor, so that other
programs disturb them less; the first one is not counted. Exits with 1 where blocks that lie on a grid do not come back.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gemmule
from conditions import conditions
from gemmule.benchmark import Samples

testing = gemmule._core.testing

# What is written, by which rule, from which weights.
CASES = [
    ("q4_0", "llama", "normal"),
    ("q4_0", "recover", "normal"),
    ("q4_0", "recover", "on a grid"),
    ("q8_0", "llama", "normal"),
    ("q6_k", "recover", "normal"),
    ("bf16", "recover", "float32"),
    ("f16", "recover", "float32"),
]


def main() -> int:
    options = parse_options()
    weights = make_weights(options.rows, options.cols)
    results, ok = [], True
    for target in testing.targets():
        testing.set_target(target)
        for encoding, grid, kind in CASES:
            result = measure(weights[kind], encoding, grid, options.repeat)
            results.append({"target": target, "encoding": encoding, "grid": grid, "weights": kind} | result)
            ok &= kind != "on a grid" or result["on_grid"] == 1.0
            print(
                f"{target:8} {encoding:5} {grid:8} {kind:10} {result['median'] / 1e9:6.2f} GB/s"
                f" ({result['least'] / 1e9:.2f} - {result['most'] / 1e9:.2f}), error {result['relative_error']:.4f}"
            )
    testing.set_target(None)
    if options.json:
        options.json.write_text(json.dumps({"conditions": conditions(), "results": results}, indent=2) + "\n")
    return 0 if ok else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--cols", type=int, default=1536, help="a multiple of 256")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def make_weights(rows: int, cols: int) -> dict[str, NDArray[np.float32]]:
    """Normal weights as float32 and cut off to bfloat16; and decoded Q4_0 with codes -6 ... 6, scales of both signs."""
    random = np.random.default_rng(0)
    normal = (0.05 * random.standard_normal((rows, cols))).astype(np.float32)
    scales = (0.01 * random.standard_normal((rows, cols // 32))).astype(np.float16)
    on_a_grid = random.integers(-6, 7, (rows, cols)) * np.repeat(scales, 32, axis=1).astype(np.float32)
    rounded, _ = testing.encode(on_a_grid.astype(np.float32), "f32", "bf16", "recover")
    return {
        "float32": normal,
        "normal": (normal.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
        "on a grid": (rounded.view(np.uint16).astype(np.uint32) << 16).view(np.float32),
    }


def measure(x: NDArray[np.float32], encoding: str, grid: str, repeat: int) -> dict[str, Any]:
    """Bytes of bfloat16 a second; the error's root mean square over the weights'; share of blocks that came back."""
    samples = []
    for _ in range(repeat + 1):
        start = time.process_time()
        _, counts = testing.encode(x, "bf16", encoding, grid)
        samples.append(2 * x.size / (time.process_time() - start))
    return {
        **asdict(Samples.of(samples[1:])),
        "relative_error": (counts["error_squares"] / counts["squares"]) ** 0.5,
        "on_grid": counts["on_grid"] / counts["elements"],
    }


if __name__ == "__main__":
    sys.exit(main())
