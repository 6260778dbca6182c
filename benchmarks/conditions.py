"""Under which conditions a number was measured: without them it cannot be compared with another."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from gemmule import benchmark

ROOT = Path(__file__).resolve().parents[1]


def conditions() -> dict[str, Any]:
    return {"commit": commit(), **benchmark.conditions()}


def commit() -> str | None:
    """The commit of the checkout, "-dirty" behind it where files differ from it; None outside of a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
