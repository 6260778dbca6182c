"""How fast a checkpoint loads, reads a prompt and generates, and how much memory that takes."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import Any

from .. import arguments
from ..checkpoints.checkpoint import DEMO
from ..checkpoints.memory import own_bytes
from ..json_line import json_line
from ..loading import load
from ..progress import Progress
from ..table import table
from .prompts import random_ids, require_room
from .samples import Samples, conditions, headline, repetitions


@dataclass(frozen=True)
class Speed:
    """Print it, or take `to_json()`.

    Attributes:
        path: of the checkpoint.
        prompt_tokens, decode_tokens: how many were read at once, and made one by one.
        threads, activations, kv: as in the model.
        load: seconds, of files that the system has in memory already.
        prefill, decode: tokens per second.
        peak_resident_bytes: the most memory that this process ever had, Python and mapped files included.
        conditions: of the measurement.
    """

    path: str
    prompt_tokens: int
    decode_tokens: int
    threads: int
    activations: str
    kv: str
    load: Samples
    prefill: Samples
    decode: Samples
    peak_resident_bytes: int
    conditions: dict[str, Any]

    def to_json(self) -> str:
        """All fields, as a JSON object."""
        return json_line(asdict(self))

    def __str__(self) -> str:
        rows = [
            ("load", *self.load.cells(1e-3), "ms"),
            (f"prefill {self.prompt_tokens}", *self.prefill.cells(1), "tokens/s"),
            (f"decode {self.decode_tokens}", *self.decode.cells(1), "tokens/s"),
            ("peak resident memory", f"{self.peak_resident_bytes / 1e6:.0f}", "", "MB"),
        ]
        how = f"{self.path}: {self.threads} threads, activations {self.activations}, kv {self.kv}"
        found = table(("", "median", "least - most", ""), rows, left=(0, 3))
        return f"{headline(self.conditions)}\n{how}\n\n{found}"


def speed(
    path: str | os.PathLike[str] = DEMO,
    *,
    threads: int | None = None,
    activations: str = "auto",
    kv: str = "auto",
    prompt: int = 512,
    tokens: int = 64,
    repeat: int = 5,
    progress: bool = True,
) -> Speed:
    """Measures loading, reading a prompt of random tokens, and making tokens, each `repeat` times behind one that is
    not counted.

    Args:
        path, threads, activations, kv: as for `load`.
        prompt: tokens that are read in one call.
        tokens: that are then made one by one, always the likeliest. The first comes out of the prompt and does not
            count.
        repeat: measurements of each.
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
    loads, prefills, decodes = [], [], []
    with Progress(2 * (repeat + 1), "run", wanted=progress) as bar:
        for _ in range(repeat + 1):
            begin = time.perf_counter()
            model = load(path, threads=threads, activations=activations, kv=kv, prefix_cache=0)
            loads.append(time.perf_counter() - begin)
            bar.advance(1, "load")
        require_room(model, prompt, tokens)
        ids = random_ids(model, prompt)
        for _ in range(repeat + 1):
            usage = model.generate(ids, max_tokens=tokens + 1, temperature=0, ignore_eos=True).usage
            prefills.append(usage.prefill_tokens_per_second)
            decodes.append(usage.tokens_per_second)
            bar.advance(1, f"{decodes[-1]:.1f} tokens/s")
    return Speed(
        path=str(path),
        prompt_tokens=prompt,
        decode_tokens=tokens,
        threads=model.threads,
        activations=model.info["activations"],
        kv=model.info["kv"],
        load=Samples.of(loads[1:]),
        prefill=Samples.of(prefills[1:]),
        decode=Samples.of(decodes[1:]),
        peak_resident_bytes=own_bytes("VmHWM"),
        conditions=where,
    )
