"""How fast gemmule is beside llama.cpp (llama-cpp-python), measured in turn on the same cores, on E2B shapes.

    python benchmarks/compare.py --json results.json [--figures decode-mobile,prefill-mobile]

The files have random codes; they are written at the first run and kept: the mobile checkpoint (2.1 GB), a GGUF file in
Q4_0 (3.4 GB), and for the figure decode-a4b one of 26B-A4B's shapes (6.1 GB). llama_cpp_engine.py says how llama.cpp is
set, README.md beside this file has the details.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from dataclasses import asdict
from typing import Any

import compare_setup
import conditions
import gemmule
import program
from compare_setup import Setup
from comparisons import FIGURES, Figure, Goal, Measured
from gemmule.benchmark import Limit
from other_programs import OtherPrograms
from spread import summary

LIMIT_PASSES = 5


def main() -> int:
    options = parse_options()
    options.folder.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
    os.sched_setaffinity(0, cores)  # the engines' processes inherit it
    sizes = compare_setup.SMALL if options.small else compare_setup.E2B
    setup = Setup(options.folder, sizes, len(cores), options.repeat, options.seed)
    where = conditions.conditions()
    limits = [measure_limit(options)]
    rows: dict[str, dict[str, Any]] = {}
    report: dict[str, Any] = {}
    for name in options.figures:
        print(f"{name} ... ", end="", flush=True, file=sys.stderr)
        others = OtherPrograms()
        measured = {**FIGURES[name].measure(setup), "other_programs_cores": others.cores()}
        limits.append(measure_limit(options))
        rows[name] = row(FIGURES[name], measured, limits[-2:])
        print("  ".join(filter(None, cells_of(rows[name])[1:])), file=sys.stderr)
        report = {
            "benchmark": "compare",
            "conditions": {**where, "cores": cores, "load_average_at_end": os.getloadavg()[0]},
            "files": files(setup),
            "plan": {"threads": len(cores), "repeat": options.repeat, "seed": options.seed, "sizes": asdict(sizes)},
            "limits": {when: limit_summary(limit) for when, limit in (("before", limits[0]), ("after", limits[-1]))},
            "results": rows,
        }
        program.write(report, options.json)  # what is measured stays, if a later figure is broken off
    failed = [f"{name}: {what}" for name, found in rows.items() for what, holds in found["checks"].items() if not holds]
    return program.end(report, table(report), options.json, failed)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of gemmule beside llama.cpp, on E2B shapes.")
    usual = [name for name, figure in FIGURES.items() if not figure.is_long]
    parser.add_argument(
        "--figures",
        type=figure_names,
        default=usual,
        help=f"which, with commas between them, of {', '.join(FIGURES)} (default: all but the long ones, "
        f"{', '.join(name for name in FIGURES if name not in usual)})",
    )
    parser.add_argument("--threads", type=int, default=gemmule.cpu()["threads"], help="of each engine, one a core")
    parser.add_argument("--repeat", type=int, default=7, help="turns of each engine behind the warm-up (default: 7)")
    program.add_options(parser)
    return parser.parse_args()


def figure_names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in FIGURES:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(FIGURES)}")
    return names


def measure_limit(options: argparse.Namespace) -> Limit:
    return program.measure_limit(options.small, options.threads, LIMIT_PASSES, progress=False)


def limit_summary(limit: Limit) -> dict[str, Any]:
    return {
        "read_bytes_per_second": summary(limit.read.samples),
        "int8_multiply_adds_per_second": summary(limit.multiply_adds.samples),
    }


def row(figure: Figure, measured: Measured, limits: list[Limit]) -> dict[str, Any]:
    """What a figure measured, and which of its goals that reaches. limits: just before it and after it."""
    found = dict(measured)
    if "multiply_adds_per_token" in found:
        peak = statistics.mean(limit.multiply_adds.median for limit in limits)
        found["share_of_int8_peak"] = found["gemmule"]["median"] * found["multiply_adds_per_token"] / peak
    goals = {"at_least": figure.at_least, "aim": figure.aim}
    found |= {name: goal and reached(goal, found) for name, goal in goals.items()}
    return {"title": figure.title, "against_what": figure.against, **found}


def reached(goal: Goal, found: Measured) -> dict[str, Any]:
    return {"goal": goal.text, "holds": goal.reached(found)}


def files(setup: Setup) -> dict[str, Any]:
    """What was measured on: the files that some figure has opened."""
    opened = {name: vars(setup).get(name) for name in ("checkpoint", "q4_0", "a4b")}
    facts = ("parameters", "sha256", "file_bytes", "weight_bytes_per_token")
    return {name: {fact: getattr(file, fact) for fact in facts} for name, file in opened.items() if file}


def table(report: dict[str, Any]) -> str:
    where, plan = report["conditions"], report["plan"]
    lines = [
        f"gemmule {where['gemmule']}, commit {where['commit'] or 'unknown'}, {where['date']}",
        f"{where['cpu']}, a thread for each of the cores {', '.join(map(str, where['cores']))}",
        f"load average {where['load_average']:.1f} before, {where['load_average_at_end']:.1f} after",
        *(limit_line(when, limit) for when, limit in report["limits"].items()),
        f"{plan['sizes']['shape']} shapes, {plan['repeat']} turns each; medians, in brackets quartiles",
        "others: cores that other programs took meanwhile",
        "",
    ]
    heads = ("figure", "gemmule", "against", "ratio", "least - most", "at least", "aim", "others")
    cells = [heads, *(cells_of(found) for found in report["results"].values())]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join(lines)


def limit_line(when: str, limit: dict[str, Any]) -> str:
    read, multiply_adds = (limit[name]["median"] for name in ("read_bytes_per_second", "int8_multiply_adds_per_second"))
    return f"{when}: memory is read at {read / 1e9:.1f} GB/s, {multiply_adds / 1e12:.2f} T int8 multiply-adds/s"


def cells_of(found: dict[str, Any]) -> tuple[str, ...]:
    limits = {"share_of_bandwidth": "bandwidth", "share_of_int8_peak": "int8 peak"}
    shares = "".join(f", {100 * found[name]:.0f} % of {limit}" for name, limit in limits.items() if name in found)
    against = f"{found['against_what']}: {with_quartiles(found['against'])}" if "against" in found else ""
    ratio = found.get("ratio")
    return (
        found["title"],
        f"{with_quartiles(found['gemmule'])} {found['unit']}{shares}",
        against,
        with_quartiles(ratio) if ratio else "",
        f"{digits(ratio['min'])} - {digits(ratio['max'])}" if ratio else "",
        *(goal_cell(found[name]) for name in ("at_least", "aim")),
        f"{found['other_programs_cores']:.1f}",
    )


def goal_cell(goal: dict[str, Any] | None) -> str:
    return f"{goal['goal']}: {'yes' if goal['holds'] else 'NO'}" if goal else ""


def with_quartiles(spread: dict[str, Any]) -> str:
    low, high = map(digits, spread["quartiles"])
    return f"{digits(spread['median'])} ({low}-{high})"


def digits(number: float) -> str:
    """Three significant ones."""
    return f"{float(f'{number:.3g}'):g}"


if __name__ == "__main__":
    sys.exit(main())
