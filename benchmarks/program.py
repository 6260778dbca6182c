"""What the programs that measure whole models have in common: options, the machine's limit, the end."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from gemmule import benchmark
from gemmule.benchmark import Limit

SMALL_ARRAY_BYTES = 1 << 24  # for --small: it shows that the measurement works, not how fast the memory is


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the random weights and tokens (default: 0)")
    folder = Path(tempfile.gettempdir()) / "gemmule-benchmarks"
    add("--folder", type=Path, default=folder, help="where the files are kept (default: %(default)s)")
    add("--small", action="store_true", help="tiny shapes: seconds instead of minutes")
    add("--json", type=Path, metavar="FILE", help="also write the report as JSON")


def measure_limit(small: bool, threads: int, repeat: int, *, progress: bool = True) -> Limit:
    """What so many threads can do at most."""
    size = {"array_bytes": SMALL_ARRAY_BYTES} if small else {}
    return benchmark.limits(threads=threads, repeat=repeat, progress=progress, **size).limits[-1]


def write(report: dict[str, Any], file: Path | None) -> None:
    if file:
        file.write_text(json.dumps(report, indent=1) + "\n")


def end(report: dict[str, Any], table: str, file: Path | None, failed: list[str]) -> int:
    """Prints the report, writes it, and says what does not hold. Returns the exit code."""
    print(table)
    write(report, file)
    for what in failed:
        print(f"This does not hold: {what}.", file=sys.stderr)
    return 1 if failed else 0
