"""What all verbs of the command line share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .json_line import json_line


@dataclass(frozen=True)
class Verb:
    """One verb: what it does, in a line, the function that does it, and its own arguments. The function returns the
    exit code; None is 0."""

    help: str
    run: Callable[[argparse.Namespace], int | None]
    add_arguments: Sequence[Callable[[argparse.ArgumentParser], None]]


def add_output(parser: argparse.ArgumentParser) -> None:
    """Arguments of every verb."""
    add = parser.add_argument_group("output").add_argument
    add("--json", action="store_true", help="print JSON")
    add("-q", "--quiet", action="store_true", help="no remarks, no progress bar")


def print_json(value: dict[str, Any]) -> None:
    print(json_line(value), flush=True)
