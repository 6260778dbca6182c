"""How well a model predicts a text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arguments import TokenIds
from ..model import Model
from ..progress import Progress
from .windows import cut


@dataclass(frozen=True)
class Perplexity:
    """Attributes:
    mean_nll: mean of -ln p, nats per token.
    stderr: its standard error, sqrt(variance / (tokens - 1)), nats; NaN for a single token.
    perplexity: exp(mean_nll).
    bits_per_byte: all of -log2 p over the UTF-8 bytes of the scored tokens' text, in which special tokens count
        nothing; None without a tokenizer.
    tokens: tokens that were scored.
    """

    mean_nll: float
    stderr: float
    perplexity: float
    bits_per_byte: float | None
    tokens: int

    @classmethod
    def of(cls, nll: NDArray[np.float64], text_bytes: int) -> Perplexity:
        """nll (N,), -ln p of each token, nats; text_bytes 0: unknown."""
        mean = float(nll.mean())
        return cls(
            mean_nll=mean,
            stderr=standard_error(nll),
            perplexity=exp(mean),
            bits_per_byte=float(nll.sum()) / math.log(2) / text_bytes if text_bytes else None,
            tokens=len(nll),
        )

    @property
    def perplexity_stderr(self) -> float:
        """Standard error of `perplexity`, to first order."""
        return self.perplexity * self.stderr


def perplexity(
    model: Model,
    text: str | Path | TokenIds,
    *,
    window: int = 512,
    score: str = "second-half",
    stride: int | None = None,
    windows: int | None = None,
    progress: bool = True,
) -> Perplexity:
    """How well the model predicts a text.

    Args:
        text: text, a file's path (a Path, or a string that names a file; read as UTF-8), or (T,) token ids in [0, V).
            Text is encoded once, with BOS; what looks like a special token in it is ordinary text. Every later window
            has its first token, which is never scored, replaced by BOS, as the model never saw a text without it. Ids
            are used as they are.
        window: tokens a pass sees, at least 3 ("all": 2), at most the model's context.
        score: "second-half" (llama.cpp's tool): windows do not overlap, a last incomplete one is dropped, the
            tokens window // 2 + 1 ... window - 1 of each are scored; or "all": every token but the first is scored
            once, in windows moved by `stride`.
        stride: for "all" only, in 1 ... window - 1; None: window // 2.
        windows: only the first so many, at least 1; None: all.
        progress: show a bar with the running value, where standard error is a terminal or a notebook.

    Raises:
        ArgumentError (a ValueError): less than one window, an id out of range, a stride out of range.
        MissingFileError, FormatError: no such file; it is not UTF-8.

    Source: ggml-org/llama.cpp tools/perplexity, for the protocol "second-half".
    """
    cuts = cut(text, [model], window=window, score=score, stride=stride, windows=windows)
    scored: list[NDArray[np.float64]] = []
    with Progress(len(cuts), "window", wanted=progress) as bar:
        total = count = 0.0
        for ids, first in cuts:
            nll = -model._new_decoder().score(ids, first)
            scored.append(nll)
            total, count = total + float(nll.sum()), count + len(nll)
            bar.advance(1, f"perplexity {exp(total / count):.3f}")
    return Perplexity.of(np.concatenate(scored), cuts.text_bytes)


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of values (N,): sqrt(variance / (N - 1)); NaN for N = 1."""
    return math.sqrt(float(values.var()) / (len(values) - 1)) if len(values) > 1 else math.nan


def exp(nats: float) -> float:
    """e^nats, infinity where it is no float."""
    return math.exp(nats) if nats < 700 else math.inf
