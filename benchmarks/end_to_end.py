"""How fast gemmule loads, reads a prompt and generates, and how much memory it takes, on an E2B-shaped checkpoint.

    python benchmarks/end_to_end.py --json results.json

The checkpoint has the shapes and encodings of the published E2B mobile file and random weights (2.1 GB). It is written
at the first run and kept. Only gemmule's public Python interface is measured; README.md has the details.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import conditions
import e2b_checkpoint
import generation_run
import program
from e2b_checkpoint import Checkpoint
from gemmule import benchmark
from generation_run import Plan
from spread import summary


def main() -> int:
    options = parse_options()
    checkpoint = find_checkpoint(options)
    plan = Plan(
        folder=str(checkpoint.folder),
        threads=options.threads,
        kv=options.kv,
        prompt_tokens=options.prompt,
        decode_tokens=options.tokens,
        repeat=options.repeat,
        seed=options.seed,
    )
    where = conditions.conditions()
    measured = run_in_child(plan)
    bandwidth = program.measure_limit(options.small, measured["threads"], options.repeat).read
    report = {
        "benchmark": "end_to_end",
        "conditions": {
            **where,
            "target": measured["cpu"]["target"],
            **{name: measured[name] for name in ("threads", "activations", "kv")},
        },
        "checkpoint": {name: value for name, value in asdict(checkpoint).items() if name != "folder"},
        "plan": {name: value for name, value in asdict(plan).items() if name != "folder"},
        "results": results(plan, checkpoint, measured, bandwidth),
        "checks": measured["checks"],
    }
    failed = [what for what, holds in measured["checks"].items() if not holds]
    return program.end(report, table(report), options.json, failed)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed and memory of gemmule on an E2B-shaped mobile checkpoint.")
    parser.add_argument("--threads", type=positive, help="threads that compute (default: gemmule's own choice)")
    parser.add_argument("--repeat", type=positive, default=5, help="repetitions behind the warm-up (default: 5)")
    parser.add_argument("--tokens", type=positive, default=64, help="tokens to decode (default: 64)")
    parser.add_argument("--prompt", type=positive, default=512, help="tokens of the prompt (default: 512)")
    parser.add_argument("--kv", default="auto", help="elements of the key/value cache, as in gemmule.load")
    program.add_options(parser)
    return parser.parse_args()


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def find_checkpoint(options: argparse.Namespace) -> Checkpoint:
    begin = time.perf_counter()
    checkpoint = e2b_checkpoint.find_or_write(options.folder, "small" if options.small else "e2b", options.seed)
    seconds = time.perf_counter() - begin
    print(f"checkpoint: {checkpoint.folder} ({seconds:.1f} s)", file=sys.stderr)
    return checkpoint


def run_in_child(plan: Plan) -> dict[str, Any]:
    command = [sys.executable, generation_run.__file__, json.dumps(asdict(plan))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"the process that loads and generates ended with status {done.returncode}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def results(
    plan: Plan, checkpoint: Checkpoint, measured: dict[str, Any], bandwidth: benchmark.Samples
) -> dict[str, Any]:
    """What is reported: for each measurement its summary; for each fact its value."""
    decode = [plan.decode_tokens / seconds for seconds in measured["decode_seconds"]]
    weight_speed = [checkpoint.weight_bytes_per_token * speed for speed in decode]
    return {
        "load_ms": summary([1e3 * seconds for seconds in measured["load_seconds"]]),
        "prefill_tokens_per_second": summary([plan.prompt_tokens / seconds for seconds in measured["prefill_seconds"]]),
        "decode_tokens_per_second": summary(decode),
        "weight_bytes_per_token": checkpoint.weight_bytes_per_token,
        "weight_bytes_per_second": summary(weight_speed),
        "read_bandwidth_bytes_per_second": summary(bandwidth.samples),
        "share_of_read_bandwidth": statistics.median(weight_speed) / bandwidth.median,
        "peak_resident_bytes": measured["peak_resident_bytes"],
        "anonymous_bytes": measured["anonymous_bytes"],
        "file_bytes": measured["file_bytes"],
    }


def table(report: dict[str, Any]) -> str:
    where, found, plan = report["conditions"], report["results"], report["plan"]
    rows = [
        ("load", *cells(found["load_ms"], 1), "ms"),
        (f"prefill {plan['prompt_tokens']}", *cells(found["prefill_tokens_per_second"], 1), "tokens/s"),
        (f"decode {plan['decode_tokens']}", *cells(found["decode_tokens_per_second"], 1), "tokens/s"),
        ("weights read per token", f"{found['weight_bytes_per_token'] / 1e6:.1f}", "", "MB"),
        ("weights read while decoding", *cells(found["weight_bytes_per_second"], 1e9), "GB/s"),
        ("memory read bandwidth", *cells(found["read_bandwidth_bytes_per_second"], 1e9), "GB/s"),
        ("share of the bandwidth", f"{100 * found['share_of_read_bandwidth']:.0f}", "", "%"),
        ("peak resident memory", f"{found['peak_resident_bytes'] / 1e6:.0f}", "", "MB"),
        ("  anonymous pages", f"{found['anonymous_bytes'] / 1e6:.0f}", "", "MB"),
        ("  pages of files", f"{found['file_bytes'] / 1e6:.0f}", "", "MB"),
    ]
    checks = ", ".join(f"{what}: {'yes' if holds else 'NO'}" for what, holds in report["checks"].items())
    return "\n".join(
        [
            f"gemmule {where['gemmule']}, commit {where['commit'] or 'unknown'}, {where['date']}",
            f"{where['cpu']}, {where['target']}, {where['threads']} threads, load average {where['load_average']:.1f}",
            f"{report['checkpoint']['parameters']['shape']} shapes, mobile format, activations {where['activations']}, "
            f"kv {where['kv']}, SHA-256 {report['checkpoint']['sha256'][:16]}...",
            "",
            f"{'':28} {'median':>10}  {'least - most':>19}",
            *(f"{name:28} {middle:>10}  {spread:>19}  {unit}" for name, middle, spread, unit in rows),
            "",
            checks,
        ]
    )


def cells(found: dict[str, Any], unit: float) -> tuple[str, str]:
    """Median and spread, in units of `unit`."""
    return f"{found['median'] / unit:.1f}", f"{found['min'] / unit:.1f} - {found['max'] / unit:.1f}"


if __name__ == "__main__":
    sys.exit(main())
