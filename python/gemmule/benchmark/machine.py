"""What this machine can do at most: reading memory, and multiplying bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments
from ..json_line import json_line
from ..progress import Progress
from ..table import table
from .samples import Samples, conditions, headline, repetitions, thread_counts, wrong_answer

ARRAY_BYTES = 1 << 28  # far larger than the caches of a processor
_ROUNDS = 20_000  # of products: a thread's share takes about 4 ms


@dataclass(frozen=True)
class Limit:
    """What some threads reach together.

    Attributes:
        threads: how many.
        read: bytes per second of reading memory from end to end.
        multiply_adds: products of bytes, added up, per second; nothing but registers.
    """

    threads: int
    read: Samples
    multiply_adds: Samples


@dataclass(frozen=True)
class Limits:
    """Print it, or take `to_json()`.

    Attributes:
        limits: of one thread, and of all.
        conditions: of the measurement.
    """

    limits: tuple[Limit, ...]
    conditions: dict[str, Any]

    def to_json(self) -> str:
        """All fields, as a JSON object."""
        return json_line(asdict(self))

    def __str__(self) -> str:
        rows = []
        for limit in self.limits:
            threads = f"{limit.threads} thread{'s' if limit.threads > 1 else ''}"
            rows.append(("read bandwidth", threads, *limit.read.cells(1e9), "GB/s"))
            rows.append(("int8 multiply-adds", threads, *limit.multiply_adds.cells(1e12, 3), "T/s"))
        rows.sort(key=lambda row: row[0], reverse=True)
        found = table(("limit", "", "median", "least - most", ""), rows, left=(0, 1, 4))
        return f"{headline(self.conditions)}\n\n{found}"


class Bench:
    """Some threads, and what is measured with them.

    Attributes:
        reads, multiply_adds: samples so far, bytes and products per second.
    """

    def __init__(self, threads: int, array: NDArray[np.uint8], *, float32: bool = False) -> None:
        """array: random bytes, far more than the caches hold, a multiple of 64 bytes."""
        self.core = _core.bench.KernelBench(threads, float32)
        self.reads: list[float] = []
        self.multiply_adds: list[float] = []
        self._array = array
        self._sum = int(array.view(np.uint32).sum(dtype=np.uint64)) % 2**32

    def read(self) -> None:
        """Reads the array, so that nothing else is left in the caches, and takes the time."""
        seconds, found = self.core.read(self._array)
        if found != self._sum:
            raise wrong_answer("reading memory")
        self.reads.append(self._array.nbytes / seconds)

    def multiply(self) -> None:
        seconds, count = self.core.multiply_adds(_ROUNDS)
        if count == 0:
            raise wrong_answer("multiply-adds")
        self.multiply_adds.append(count / seconds)

    def limit(self) -> Limit:
        return Limit(self.core.threads, Samples.of(self.reads), Samples.of(self.multiply_adds))


def random_bytes(count: int) -> NDArray[np.uint8]:
    """The same each time; count: a multiple of 8."""
    return np.random.default_rng(0).integers(0, 2**64, count // 8, dtype=np.uint64).view(np.uint8)


def limits(
    *, threads: int | None = None, repeat: int = 5, array_bytes: int = ARRAY_BYTES, progress: bool = True
) -> Limits:
    """Measures what one thread and all threads can do at most.

    Reading is one pass over random bytes by vector loads that nothing waits for; each thread takes piece after piece,
    as in the kernels. Multiply-adds are the best instruction of the target in use for bytes, on registers alone.

    Args:
        threads: all threads; None: the physical cores this process may use.
        repeat: measurements of each, behind one that is not counted.
        array_bytes: that are read, a multiple of 64.
        progress: show a bar, where standard error is a terminal or a notebook.

    Raises:
        ArgumentError: an argument is out of its range.
        GemmuleError: an answer is wrong.
    """
    where = conditions()
    counts = thread_counts(threads)
    repeat = repetitions(repeat)
    size = arguments.integer("array_bytes", array_bytes, least=1 << 12, most=1 << 40)
    array = random_bytes(size // 64 * 64)
    benches = [Bench(count, array) for count in counts]
    with Progress(len(benches) * (repeat + 1), "run", wanted=progress) as bar:
        for run in range(repeat + 1):
            for bench in benches:
                bench.read()
                bench.multiply()
                if run == 0:
                    bench.reads.clear()
                    bench.multiply_adds.clear()
                bar.advance(1, "limits")
    return Limits(tuple(bench.limit() for bench in benches), where)
