"""Where the time of a prompt and of a token goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import _core, arguments
from ..checkpoints.checkpoint import DEMO, GenerationConfig
from ..generation.sampling import Sampling
from ..json_line import json_line
from ..loading import load
from ..model import Model
from ..progress import Progress
from ..table import table
from .prompts import random_ids, require_room
from .samples import Samples, conditions, headline, repetitions

SAMPLER = "sampler"
# Of Gemma 4's generation_config.json, also for checkpoints that have none: profiles can then be compared.
_SAMPLING = GenerationConfig(temperature=1.0, top_k=64, top_p=0.95)


@dataclass(frozen=True)
class OperationTime:
    """Seconds of one operation, in the layer or outside of the layers, over the whole phase.

    Attributes:
        layer: None outside of the layers.
        operation: a name of cpp/model/operation.h, or "sampler".
        seconds: on the calling thread, which computes as well.
        waiting_seconds: of these, for other threads at the ends of parallel regions.
        regions: parallel regions.
    """

    layer: int | None
    operation: str
    seconds: float
    waiting_seconds: float
    regions: int


@dataclass(frozen=True)
class Phase:
    """The fastest of the repetitions: other programs only add to the time.

    Attributes:
        tokens: that were read in one call, or made one by one.
        seconds: that the fastest repetition took.
        repetitions: seconds of all of them.
        operations: those that took any time.
    """

    tokens: int
    seconds: float
    repetitions: Samples
    operations: tuple[OperationTime, ...]

    @property
    def covered(self) -> float:
        """Share of the time that the operations explain, in 0 ... 1. The rest is Python and the way into the engine."""
        return sum(each.seconds for each in self.operations) / self.seconds


@dataclass(frozen=True)
class Profile:
    """Print it, or take `to_json()`.

    Attributes:
        path: of the checkpoint.
        threads, activations, kv: as in the model.
        layer_kinds: of each layer: "sliding" or "full", " shared" behind it where it reads another's keys and values.
        prefill, decode: of the prompt, and of the tokens behind it.
        conditions: of the measurement.
    """

    path: str
    threads: int
    activations: str
    kv: str
    layer_kinds: tuple[str, ...]
    prefill: Phase
    decode: Phase
    conditions: dict[str, Any]

    def to_json(self) -> str:
        """All fields, as a JSON object, and of each phase `covered`."""
        covered = {name: {**asdict(phase), "covered": phase.covered} for name, phase in self._phases().items()}
        return json_line({**asdict(self), **covered})

    def __str__(self) -> str:
        how = f"{self.path}: {self.threads} threads, activations {self.activations}, kv {self.kv}"
        prefill, decode = self.prefill, self.decode
        return "\n\n".join(
            [
                f"{headline(self.conditions)}\n{how}",
                f"prefill, {prefill.tokens} tokens at once: {_ms(prefill.seconds)} ms\n\n{self._table(prefill, 1)}",
                f"decode, each of {decode.tokens} tokens: {_ms(decode.seconds / decode.tokens)} ms\n\n"
                f"{self._table(decode, decode.tokens)}",
            ]
        )

    def _phases(self) -> dict[str, Phase]:
        return {"prefill": self.prefill, "decode": self.decode}

    def _table(self, phase: Phase, parts: int) -> str:
        """Milliseconds of one of so many parts: of each operation, and of it in the layers of each kind."""
        kinds = list(dict.fromkeys(self.layer_kinds))
        names = list(dict.fromkeys(each.operation for each in phase.operations))
        rows = []
        for name in names:
            here = [each for each in phase.operations if each.operation == name]
            of_kind = [[each for each in here if self._kind(each) == kind] for kind in kinds]
            rows.append(_row(name, here, of_kind, phase.seconds, parts))
        of_kind = [[each for each in phase.operations if self._kind(each) == kind] for kind in kinds]
        rest = phase.seconds * (1 - phase.covered)
        rows.append(("the rest", _ms(rest / parts), _percent(1 - phase.covered), "", "", *("" for _ in kinds)))
        rows.append(_row("all", phase.operations, of_kind, phase.seconds, parts))
        columns = [f"{kind} x{self.layer_kinds.count(kind)}" for kind in kinds]
        return table(("ms", "", "share", "waiting", "regions", *columns), rows)

    def _kind(self, time: OperationTime) -> str | None:
        return None if time.layer is None else self.layer_kinds[time.layer]


def _row(
    name: str, times: Iterable[OperationTime], of_kind: Iterable[list[OperationTime]], whole: float, parts: int
) -> tuple[str, ...]:
    times = list(times)
    seconds = sum(each.seconds for each in times)
    waiting = sum(each.waiting_seconds for each in times)
    regions = sum(each.regions for each in times)
    kinds = (_ms(sum(each.seconds for each in some) / parts) if some else "" for some in of_kind)
    return (
        name,
        _ms(seconds / parts),
        _percent(seconds / whole),
        _ms(waiting / parts),
        f"{regions / parts:.0f}",
        *kinds,
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def profile(
    path: str | os.PathLike[str] = DEMO,
    *,
    threads: int | None = None,
    activations: str = "auto",
    kv: str = "auto",
    prompt: int = 512,
    tokens: int = 64,
    repeat: int = 5,
    progress: bool = True,
) -> Profile:
    """Measures how long each operation takes while a prompt of random tokens is read and tokens are made.

    The tokens are drawn with Gemma 4's own settings: temperature 1, top-k 64, top-p 0.95.

    Args:
        path, threads, activations, kv: as for `load`.
        prompt: tokens that are read in one call.
        tokens: that are then made one by one.
        repeat: measurements, behind one that is not counted.
        progress: show a bar, where standard error is a terminal or a notebook.

    Raises:
        ArgumentError: an argument is out of its range.
        ContextError: prompt and tokens do not fit the checkpoint's context.
        Those of `load`.
    """
    where = conditions()
    repeat = repetitions(repeat)
    prompt = arguments.integer("prompt", prompt, least=1, most=2**31 - 1)
    tokens = arguments.integer("tokens", tokens, least=1, most=2**31 - 1)
    model = load(path, threads=threads, activations=activations, kv=kv, prefix_cache=0)
    require_room(model, prompt, tokens)
    run = _Run(model, prompt)
    prefills, decodes = [], []
    with Progress(repeat + 1, "run", wanted=progress) as bar:
        for _ in range(repeat + 1):
            prefills.append(run.prefill())
            decodes.append(run.decode(tokens))
            bar.advance(1, f"{tokens / decodes[-1].seconds:.1f} tokens/s")
    config = model.info["config"]
    return Profile(
        path=str(path),
        threads=model.threads,
        activations=model.info["activations"],
        kv=model.info["kv"],
        layer_kinds=tuple(
            kind.removesuffix("_attention") + ("" if layer["kv_owner"] == i else " shared")
            for i, (kind, layer) in enumerate(zip(config["layer_types"], config["layers"], strict=True))
        ),
        prefill=_fastest(prefills[1:]),
        decode=_fastest(decodes[1:]),
        conditions=where,
    )


class _Run:
    """One sequence: its prompt, then its tokens, then its prompt again."""

    def __init__(self, model: Model, prompt: int) -> None:
        self._core = model._core
        self._ids = random_ids(model, prompt)
        self._decoder = model._new_decoder()
        self._sampler = Sampling.complete(_SAMPLING, model._grammars, seed=0).sampler()

    def prefill(self) -> Phase:
        self._decoder.rewind(0)
        watch = self._watch()
        begin = time.perf_counter()
        self._logits = self._decoder.prefill(self._ids)
        return _phase(len(self._ids), time.perf_counter() - begin, watch.places)

    def decode(self, tokens: int) -> Phase:
        watch = self._watch()
        sampling = 0.0
        begin = time.perf_counter()
        for _ in range(tokens):
            before = time.perf_counter()
            token = self._sampler.sample(self._logits, self._ids)
            sampling += time.perf_counter() - before
            self._logits = self._decoder.prefill(np.array([token], np.int32))
        seconds = time.perf_counter() - begin
        return _phase(tokens, seconds, [*watch.places, (None, SAMPLER, sampling, 0.0, 0)])

    def _watch(self) -> _core.bench.Profile:
        watch = _core.bench.Profile(self._core)
        watch.watch(self._decoder)
        return watch


def _phase(tokens: int, seconds: float, places: Iterable[tuple[int | None, str, float, float, int]]) -> Phase:
    return Phase(tokens, seconds, Samples.of([seconds]), tuple(OperationTime(*place) for place in places))


def _fastest(phases: list[Phase]) -> Phase:
    fastest = min(phases, key=lambda phase: phase.seconds)
    all_of_them = Samples.of([phase.seconds for phase in phases])
    return Phase(fastest.tokens, fastest.seconds, all_of_them, fastest.operations)
