"""What all verbs of the command line share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..checkpoints.estimation import ACTIVATIONS
from ..json_line import json_line
from ..loading import KV
from .streams import say


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


def add_threads(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--threads", type=int, metavar="N", help="threads that compute (default: physical cores)")


def add_arithmetic(group: argparse._ArgumentGroup, whose: str = "") -> None:
    """How a model computes; whose: in front of the options' names, where there are two."""
    add = group.add_argument
    add(f"--{whose}activations", choices=ACTIVATIONS, default="auto", help="products of activations (default: auto)")
    add(f"--{whose}kv", choices=KV, default="auto", help="elements of the key/value cache (default: auto)")


def print_json(value: dict[str, Any]) -> None:
    say(json_line(value) + "\n")


def print_found(found: Any, arguments: argparse.Namespace) -> None:
    """A result as text, or as the JSON that it has of itself."""
    say(f"{found.to_json() if arguments.json else found}\n")
