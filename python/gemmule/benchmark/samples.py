"""Repeated measurements, and under which conditions they were made."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core, arguments
from ..errors import GemmuleError


@dataclass(frozen=True)
class Samples:
    """Attributes:
    median, least, most: of the samples.
    samples: in the order in which they were taken.
    """

    median: float
    least: float
    most: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Samples:
        return cls(statistics.median(values), min(values), max(values), tuple(values))

    def cells(self, unit: float, digits: int = 1) -> tuple[str, str]:
        """Median and spread, in multiples of `unit`."""
        middle, least, most = (f"{value / unit:.{digits}f}" for value in (self.median, self.least, self.most))
        return middle, f"{least} - {most}"


def conditions() -> dict[str, Any]:
    """Without them a figure cannot be compared with another: date, cpu, machine, system, load_average (programs that
    ran in the last minute: others disturb a measurement), versions."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "target": _core.cpu()["target"],
        "load_average": os.getloadavg()[0],
        "gemmule": _core.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def headline(conditions: dict[str, Any]) -> str:
    return "{cpu}, {target}, load average {load_average:.1f}, gemmule {gemmule}, {date}".format(**conditions)


def cpu_name() -> str:
    """As the kernel names it; on Arm it often has no name there."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def wrong_answer(what: str) -> GemmuleError:
    """A fast kernel that computes nonsense is of no use: no figure comes out of it."""
    return GemmuleError(
        f"{what}: the answer is wrong, so its time means nothing",
        remedy="Run the tests of gemmule on this machine, and report what they say.",
    )


def thread_counts(threads: int | None) -> tuple[int, ...]:
    """One thread, and as many as are wanted; None: the default number."""
    most = int(_core.cpu()["threads"]) if threads is None else arguments.integer("threads", threads, least=1, most=1024)
    return (1,) if most == 1 else (1, most)


def repetitions(repeat: int) -> int:
    return arguments.integer("repeat", repeat, least=1, most=10_000)
