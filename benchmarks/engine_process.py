"""The other end of engine_worker.py: starts an engine, calls it, and sees whether it rests between the calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

WORKER = Path(__file__).with_name("engine_worker.py")


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        engine: "gemmule" or "llama_cpp".
        load: arguments of the engine's `load`.
        environment: variables that are set for it.
    """

    engine: str
    load: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)


class EngineProcess:
    """An engine in a process of its own, on the cores of this one."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), f"{side.engine}_engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **side.environment},
        )

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # the worker's loop ends
        if self._process.wait() != 0 and kind is None:
            sys.exit(f"the process of {self.side.engine} ended with status {self._process.returncode}")

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """What the engine's method returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"call": name, **arguments}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"the process of {self.side.engine} ended in {name}, with status {self._process.wait()}")
        result: dict[str, Any] = json.loads(answer)
        return result

    def load(self) -> dict[str, Any]:
        return self.call("load", **self.side.load)

    def cpu_seconds(self) -> float:
        """What all its threads have computed so far."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
