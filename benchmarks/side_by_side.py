"""Engines measured in turn, A B A B ..., each in a process of its own, all but one of them resting."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from engine_process import EngineProcess, Side

# Between turns. Threads of llama.cpp wait in a loop for some milliseconds before they sleep.
PAUSE_SECONDS = 0.1

Turn = Callable[[EngineProcess], float]


@dataclass
class Turns:
    """What was measured in turn.

    Attributes:
        values: of each side, one for each repetition.
        loaded: what each side says about itself.
        resting_cores: the most that the others computed while one did.
        beside: what was measured in each repetition while all rested.
    """

    values: list[list[float]]
    loaded: list[dict[str, Any]]
    resting_cores: float = 0.0
    beside: list[float] = field(default_factory=list)


def measure(
    sides: Sequence[Side],
    turn: Turn,
    repeat: int,
    *,
    before: Callable[[EngineProcess], object] | None = None,
    after: Callable[[list[EngineProcess]], object] | None = None,
    beside: Callable[[], float] | None = None,
) -> Turns:
    """`repeat` turns of each side, behind one that is not counted.

    Args:
        before: called once with each loaded engine.
        after: called with all engines, behind the last turn.
        beside: measures something of the machine, in each repetition between the turns of two sides.
    """
    with ExitStack() as stack:
        engines = [stack.enter_context(EngineProcess(side)) for side in sides]
        turns = Turns([[] for _ in sides], [])
        for engine in engines:
            turns.loaded.append(engine.load())
            if before:
                before(engine)
        for repetition in range(repeat + 1):
            for side, (values, engine) in enumerate(zip(turns.values, engines, strict=True)):
                time.sleep(PAUSE_SECONDS)
                if beside and side == 1 and repetition > 0:
                    turns.beside.append(beside())
                resting = [other for other in engines if other is not engine]
                begin, rested = time.perf_counter(), cpu_seconds(resting)
                value = turn(engine)
                cores = (cpu_seconds(resting) - rested) / (time.perf_counter() - begin)
                turns.resting_cores = max(turns.resting_cores, cores)
                if repetition > 0:
                    values.append(value)
        if after:
            after(engines)
    return turns


def cpu_seconds(engines: Sequence[EngineProcess]) -> float:
    return sum(engine.cpu_seconds() for engine in engines)
