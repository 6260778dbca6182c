"""How near each kernel comes to what the machine can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments
from ..checkpoints.estimation import ACTIVATIONS
from ..json_line import json_line
from ..loading import KV, load
from ..progress import Progress
from ..table import table
from .machine import ARRAY_BYTES, Bench, Limits, random_bytes
from .samples import Samples, conditions, repetitions, thread_counts, wrong_answer
from .shapes import BITS, AttentionCase, Matrix, Shapes, e2b, names, of_model

CONTEXTS = (512, 4096, 32768)  # positions that attention is measured at
PROMPT = 512  # tokens of a prompt
READ, MULTIPLY = "read", "multiply_adds"
_UNITS = {"B/s": ("GB/s", 1e9, 1), "multiply-adds/s": ("T/s", 1e12, 3), "elements/s": ("G/s", 1e9, 2)}
_LONGEST_CHUNK = 4096  # positions behind which a chunk of a prompt is measured: more would take seconds
_ROW_ELEMENTS = 1 << 15  # of all rows of a kernel: they stay in the second-level cache
# Rounding to 8 bits in groups of 32 is off by 0.6 % of the root of the sum of squares; this is six times as much.
_TOLERANCE = 0.04


@dataclass(frozen=True)
class KernelTime:
    """One kernel on one shape with some threads.

    Attributes:
        kernel: "matrix", "attention", or the name of one that works on single rows.
        what: names of the modules; of attention, "full" or "sliding".
        encoding: of the weights, or of keys and values; "" of the others.
        shape: (rows, columns) of the matrix; (heads, positions, elements of a head); (elements of a row,).
        tokens: that are worked on at once.
        threads: that work.
        unit: "B/s" of weights, or of keys and values, each counted once; "multiply-adds/s"; "elements/s".
        speed: in this unit.
        limit: "read" or "multiply_adds": which limit of the machine holds; None where none does (work in the
            caches, or products of floats).
        share: of it, fastest repetition over fastest repetition; None without a limit.
    """

    kernel: str
    what: str
    encoding: str
    shape: tuple[int, ...]
    tokens: int
    threads: int
    unit: str
    speed: Samples
    limit: str | None
    share: float | None


@dataclass(frozen=True)
class KernelTimes:
    """Print it, or take `to_json()`.

    Attributes:
        name: of the model.
        kernels: what was measured.
        limits: of the machine, measured in between.
    """

    name: str
    kernels: tuple[KernelTime, ...]
    limits: Limits

    def to_json(self) -> str:
        """All fields, as a JSON object."""
        return json_line(asdict(self))

    def __str__(self) -> str:
        counts = [limit.threads for limit in self.limits.limits]
        lines: dict[tuple[object, ...], dict[int, KernelTime]] = {}
        for each in self.kernels:
            key = (each.kernel, each.what, each.encoding, each.shape, each.tokens)
            lines.setdefault(key, {})[each.threads] = each
        rows = []
        for of_threads in lines.values():
            one = next(iter(of_threads.values()))
            shape = " x ".join(map(str, one.shape))
            cells = [cell for count in counts for cell in _cells(of_threads.get(count))]
            rows.append((one.what or one.kernel, one.encoding, shape, str(one.tokens), *cells, _UNITS[one.unit][0]))
        columns = [cell for count in counts for cell in (f"{count} thread{'s' if count > 1 else ''}", "of limit")]
        head = ("kernel", "", "shape", "tokens", *columns, "")
        found = table(head, rows, left=(0, 1, 2, len(head) - 1))
        return f"{self.limits}\n\n{self.name}; fastest repetition, rounding of the inputs included\n\n{found}"


def kernels(
    path: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    activations: str = "auto",
    kv: str = "auto",
    repeat: int = 5,
    progress: bool = True,
) -> KernelTimes:
    """Measures the kernels on the shapes of a model, with one thread and with all.

    Matrices are read from memory: before each measurement the caches are filled with other bytes. A product is measured
    as a layer does it, the rounding of its input and the waiting for all threads included. Each answer is compared
    with numpy's.

    Args:
        path: of a checkpoint, whose own matrices are used; None: shapes and encodings of E2B's mobile format, with
            random codes.
        threads, activations, kv: as for `load`.
        repeat: measurements of each, behind one that is not counted.
        progress: show a bar, where standard error is a terminal or a notebook.

    Raises:
        ArgumentError: an argument is out of its range.
        Those of `load`.
        GemmuleError: an answer is wrong.
    """
    where = conditions()
    repeat = repetitions(repeat)
    arguments.choice("activations", activations, ACTIVATIONS)
    arguments.choice("kv", kv, KV)
    counts = thread_counts(threads)
    pool = random_bytes(ARRAY_BYTES)
    if path is None:
        found = e2b(pool, activations, kv)
    else:
        found = of_model(load(path, threads=threads, activations=activations, kv=kv))
    benches = [Bench(count, pool, float32=found.float32) for count in counts]
    cases = [*_matrix_cases(found), *_attention_cases(found), *_row_cases(found)]
    with Progress(len(cases) * (repeat + 1), "run", wanted=progress) as bar:
        times = []
        for case in cases:
            speeds: list[list[float]] = [[] for _ in benches]
            for _ in range(repeat + 1):
                for bench, of_bench in zip(benches, speeds, strict=True):
                    if case.on_all_threads or bench is benches[0]:
                        benches[-1].read()
                        benches[0].read()
                        bench.multiply()
                        of_bench.append(case.amount / case.run(bench.core))
                bar.advance(1, case.what or case.kernel)
            times.append((case, speeds))
    limits = Limits(tuple(bench.limit() for bench in benches), where)
    return KernelTimes(found.name, tuple(time for each in times for time in _times(*each, limits)), limits)


@dataclass(frozen=True)
class _Case:
    """What to measure: run(bench) does it, checks the answer, and returns the seconds; amount: in units, of one run."""

    kernel: str
    what: str
    encoding: str
    shape: tuple[int, ...]
    tokens: int
    unit: str
    limit: str | None
    amount: float
    run: Callable[[_core.bench.KernelBench], float]
    on_all_threads: bool = True


def _times(case: _Case, speeds: list[list[float]], limits: Limits) -> list[KernelTime]:
    times = []
    for limit, of_bench in zip(limits.limits, speeds, strict=True):
        if of_bench:
            speed = Samples.of(of_bench[1:])
            most = {READ: limit.read.most, MULTIPLY: limit.multiply_adds.most}
            share = speed.most / most[case.limit] if case.limit else None
            what = (case.kernel, case.what, case.encoding, case.shape, case.tokens, limit.threads)
            times.append(KernelTime(*what, unit=case.unit, speed=speed, limit=case.limit, share=share))
    return times


def _matrix_cases(found: Shapes) -> list[_Case]:
    cases = []
    for group in found.matrices:
        one = group[0]
        shape = (one.rows, one.cols)
        size = sum(matrix.bytes for matrix in group)
        what = names(group)
        cases.append(_Case("matrix", what, one.encoding, shape, 1, "B/s", READ, size, _matrix_run(group, 1)))
        if one.rows == found.vocab_size:
            continue  # of a prompt, its last token only
        integer = not found.float32 and _is_integer(one)
        for tokens in dict.fromkeys((_core.CHUNK_TOKENS, PROMPT)):
            count = tokens * one.rows * one.cols
            limit = MULTIPLY if integer else None
            run = _matrix_run(group[:1], tokens)
            cases.append(_Case("matrix", what, one.encoding, shape, tokens, "multiply-adds/s", limit, count, run))
    return cases


def _is_integer(matrix: Matrix) -> bool:
    """Whether the products are of integers, as cpp/model/linear.cc has it."""
    if matrix.encoding in ("f32", "f16", "bf16"):
        return False
    coded = matrix.encoding in ("c2", "c4", "c8", "u8")
    return (matrix.input_scale != 0) == coded


def _matrix_run(group: Sequence[Matrix], tokens: int) -> Callable[[_core.bench.KernelBench], float]:
    last = group[-1]
    random = np.random.default_rng(0)
    x = random.standard_normal((tokens, last.cols), dtype=np.float32)
    if last.input_scale != 0:  # values that the static rounding does not change
        x = np.clip(np.round(x * 32), -128, 127).astype(np.float32) * np.float32(last.input_scale)

    def run(bench: _core.bench.KernelBench) -> float:
        seconds, y = bench.linears(list(group), x)
        _check_product(last, x, y)
        return seconds

    return run


def _check_product(matrix: Matrix, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    """A few rows against numpy."""
    for row in {0, matrix.rows // 2, matrix.rows - 1}:
        weights = matrix.row(row)
        want = x @ weights
        error = _TOLERANCE * np.sqrt(np.square(x) @ np.square(weights))
        if matrix.output_scale != 0:  # results are on a grid: a tie may fall to either side
            want = np.clip(want, -128 * matrix.output_scale, 127 * matrix.output_scale)
            error += matrix.output_scale
        if not (np.abs(y[:, row] - want) <= error + 1e-6).all():
            raise wrong_answer(f"{matrix.name}, {matrix.encoding}, row {row}")


def _attention_cases(found: Shapes) -> list[_Case]:
    cases = []
    chunk = _core.CHUNK_TOKENS
    for kind in found.attention:
        if kind.window:
            cases += [_attention_case(kind, kind.window, 1), _attention_case(kind, kind.window + chunk - 1, chunk)]
            continue
        contexts = [n for n in CONTEXTS if n <= found.context]
        cases += [_attention_case(kind, n, 1) for n in contexts]
        cases += [_attention_case(kind, n, chunk) for n in contexts if chunk <= n <= _LONGEST_CHUNK]
    return cases


def _attention_case(kind: AttentionCase, positions: int, tokens: int) -> _Case:
    what = "attention, sliding" if kind.window else "attention, full"
    shape = (kind.heads, positions, kind.head_dim)
    lasts = np.arange(positions - tokens + 1, positions + 1)
    seen = np.minimum(lasts, kind.window or positions)  # keys of each token
    run = _attention_run(kind, positions, tokens)
    if tokens == 1:
        size = 2 * positions * kind.kv_heads * kind.head_dim * BITS[kind.encoding] // 8
        return _Case("attention", what, kind.encoding, shape, tokens, "B/s", READ, size, run)
    count = 2 * int(seen.sum()) * kind.heads * kind.head_dim
    limit = MULTIPLY if kind.encoding in ("c8", "c4") else None
    return _Case("attention", what, kind.encoding, shape, tokens, "multiply-adds/s", limit, count, run)


def _attention_run(kind: AttentionCase, positions: int, tokens: int) -> Callable[[_core.bench.KernelBench], float]:
    random = np.random.default_rng(0)
    block = _core.KV_BLOCK_TOKENS
    width = kind.kv_heads * kind.head_dim
    elements = -(-positions // block) * 2 * block * width
    scale = 1.0
    if kind.encoding in ("f32", "bf16"):
        values = random.standard_normal(elements, dtype=np.float32)
        stored = values.view(np.uint8) if kind.encoding == "f32" else values.view(np.uint16)[1::2].copy().view(np.uint8)
    else:
        stored = random_bytes(elements * BITS[kind.encoding] // 8)
        scale = 1 / 64 if kind.encoding == "c8" else 1 / 4
    cache = stored.reshape(-1, 2 * block * width * BITS[kind.encoding] // 8)
    # Scores of two random heads then have a standard deviation of about 1.
    q = random.standard_normal((tokens, kind.heads, kind.head_dim), dtype=np.float32) / np.float32(kind.head_dim**0.5)
    window = kind.window or positions
    want = _attention(kind, cache, scale, positions, q[-1, -1])

    def run(bench: _core.bench.KernelBench) -> float:
        seconds, out = bench.attention(cache, kind.encoding, scale, scale, kind.kv_heads, positions, window, q)
        if not (np.abs(out[-1, -1] - want) <= _TOLERANCE * np.abs(want).max()).all():
            raise wrong_answer(f"attention over {kind.encoding}")
        return seconds

    return run


def _attention(
    kind: AttentionCase, cache: NDArray[np.uint8], scale: float, positions: int, q: NDArray[np.float32]
) -> NDArray[Any]:
    """The last head of the last token, by numpy."""
    scales = np.array([scale], np.float32) if kind.encoding in ("c8", "c4") else None
    block, heads = _core.KV_BLOCK_TOKENS, kind.kv_heads
    halves = cache.view(np.uint32).reshape(len(cache), 2, heads, -1)[:, :, -1]  # keys and values of the last head
    # The same word of 16 keys lies together; values are rows.
    keys = halves[:, 0].reshape(len(cache), block // 16, -1, 16).swapaxes(2, 3)

    def decoded(words: NDArray[np.uint32]) -> NDArray[np.float32]:
        count = len(cache) * block * kind.head_dim
        stored = np.ascontiguousarray(words).view(np.uint8).reshape(-1)
        return _core.testing.decode_row(stored, kind.encoding, scales, count).reshape(-1, kind.head_dim)

    first = positions - min(positions, kind.window or positions)
    k, v = decoded(keys)[first:positions], decoded(halves[:, 1])[first:positions]
    scores = k @ q
    weights = np.exp(scores - scores.max())
    found: NDArray[Any] = weights @ v / weights.sum()
    return found


def _row_cases(found: Shapes) -> list[_Case]:
    cases = []
    for kernel, lengths in found.rows.items():
        for n in dict.fromkeys(lengths):
            rows = max(1, _ROW_ELEMENTS // n)
            run = _row_run(kernel, rows, n)
            cases.append(_Case(kernel, "", "", (n,), rows, "elements/s", None, rows * n, run, on_all_threads=False))
    return cases


def _row_run(kernel: str, rows: int, n: int) -> Callable[[_core.bench.KernelBench], float]:
    x = np.random.default_rng(0).standard_normal((rows, n), dtype=np.float32)
    want = _ROWS[kernel](x)

    def run(bench: _core.bench.KernelBench) -> float:
        seconds, y = bench.rows(kernel, x)
        if not (np.abs(y - want) <= 1e-4 * np.abs(want).max()).all():
            raise wrong_answer(kernel)
        return seconds

    return run


def _rope(x: NDArray[np.float32]) -> NDArray[Any]:
    """By 45 degrees."""
    left, right = np.split(x, 2, axis=1)
    return np.concatenate([left - right, right + left], axis=1) / np.float32(2**0.5)


# What the kernels of rows do, in numpy; the constants are those of cpp/engine/kernel_bench.h.
_ROWS: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "rms_norm": lambda x: x / np.sqrt(np.mean(np.square(x), axis=1, keepdims=True) + np.float32(1e-6)),
    "rope": _rope,
    "gelu_mul": lambda x: x * 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "softcap": lambda x: 30 * np.tanh(x / 30),
    "round_to_grid": lambda x: np.clip(np.round(x * 32), -128, 127) / 32,
    "quantize_static": lambda x: np.clip(np.round(x * 32), -128, 127) / 32,
}


def _cells(time: KernelTime | None) -> tuple[str, str]:
    if time is None:
        return "", ""
    _, unit, digits = _UNITS[time.unit]
    return f"{time.speed.most / unit:.{digits}f}", "" if time.share is None else f"{100 * time.share:.0f} %"
