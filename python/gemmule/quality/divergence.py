"""How far a model is from another one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..arguments import TokenIds
from ..errors import ArgumentError
from ..json_line import json_line
from ..model import Model
from ..progress import Progress
from ..table import table
from .evaluate import Perplexity, standard_error
from .windows import cut, require_models


@dataclass(frozen=True)
class Divergence:
    """How far a model is from a reference on a text; print it, or take `to_json()`. Values are over the scored tokens;
    p is the reference's distribution of a token, given what is before it, q the model's.

    Attributes:
        mean_kl, stderr_kl: mean of the Kullback-Leibler divergence, sum of p (ln p - ln q), and its standard error,
            nats per token; the standard error is NaN for a single token.
        p99_kl, max_kl: its 99th percentile, between two tokens linear, and its maximum, nats.
        same_top: share of the tokens where both find the same token likeliest, of equals the lowest id; in 0 ... 1.
        rms_dp: root of the mean square of q - p of the token that the text has; in 0 ... 1.
        mean_dnll, stderr_dnll: mean of (-ln q) - (-ln p) of the token that the text has, and the standard error of this
            paired difference, nats per token; exp(mean_dnll) is the ratio of the perplexities.
        model, reference: perplexity of each.
        tokens: tokens that were scored.
    """

    mean_kl: float
    stderr_kl: float
    p99_kl: float
    max_kl: float
    same_top: float
    rms_dp: float
    mean_dnll: float
    stderr_dnll: float
    model: Perplexity
    reference: Perplexity
    tokens: int

    def to_json(self) -> str:
        """All fields, as a JSON object; null for what is not finite."""
        return json_line(asdict(self))

    def __str__(self) -> str:
        rows = [
            ("KL divergence, mean", f"{self.mean_kl:.4g}", f"{self.stderr_kl:.2g}", "nats per token"),
            ("KL divergence, 99th percentile", f"{self.p99_kl:.4g}", "", "nats"),
            ("KL divergence, maximum", f"{self.max_kl:.4g}", "", "nats"),
            ("same likeliest token", f"{100 * self.same_top:.2f}", "", "%"),
            ("RMS of the probability difference", f"{100 * self.rms_dp:.3f}", "", "%"),
            ("mean nll, difference", f"{self.mean_dnll:.4g}", f"{self.stderr_dnll:.2g}", "nats per token"),
            *(
                (f"perplexity, {name}", f"{one.perplexity:.4f}", f"{one.perplexity_stderr:.4f}", "")
                for name, one in (("model", self.model), ("reference", self.reference))
            ),
            ("tokens scored", str(self.tokens), "", ""),
        ]
        return table(("model against reference", "", "+-", ""), rows, left=(0, 3))


def compare(
    model: Model,
    reference: Model,
    text: str | Path | TokenIds,
    *,
    window: int = 512,
    score: str = "second-half",
    stride: int | None = None,
    windows: int | None = None,
    progress: bool = True,
) -> Divergence:
    """How far the model's predictions of a text are from the reference's, in one pass over the text.

    Both may be any loaded checkpoints with one vocabulary, such as two formats of a model, or one loaded twice with
    other settings. A few rows of logits of each are held at a time.

    Args:
        text, window, score, stride, windows, progress: as for `perplexity`; the window must fit both contexts. Text is
            read by the tokenizers of both, or by the one there is.

    Raises:
        ArgumentError (a ValueError): as `perplexity` does, and where the models have vocabularies of different sizes,
            or their tokenizers read the text as different ids.
        MissingFileError, FormatError: no such file; it is not UTF-8.

    Source: ggml-org/llama.cpp tools/perplexity, for the figures and the protocol "second-half".
    """
    require_models([model, reference])
    if model.vocab_size != reference.vocab_size:
        raise ArgumentError(
            f"the model has {model.vocab_size} token ids, the reference {reference.vocab_size}",
            remedy="Compare checkpoints of one vocabulary.",
            expected=f"{reference.vocab_size} token ids",
            found=str(model.vocab_size),
        )
    cuts = cut(text, [model, reference], window=window, score=score, stride=stride, windows=windows)
    parts = []
    with Progress(len(cuts), "window", wanted=progress) as bar:
        total = count = 0.0
        for ids, first in cuts:
            part = model._new_decoder().compare(reference._new_decoder(), ids, first)
            parts.append(part)
            total, count = total + float(part[2].sum()), count + len(part[2])
            bar.advance(1, f"KL {total / count:.5f}")
    nll, reference_nll, kl, same_top = (np.concatenate(column) for column in zip(*parts, strict=True))
    dnll = nll - reference_nll
    with _core.EndWaits():  # percentiles are C++ that gives Python's lock back, docs/decisions/0032
        p99_kl = float(np.percentile(kl, 99))
    return Divergence(
        mean_kl=float(kl.mean()),
        stderr_kl=standard_error(kl),
        p99_kl=p99_kl,
        max_kl=float(kl.max()),
        same_top=float(same_top.mean()),
        rms_dp=_rms(np.exp(-nll) - np.exp(-reference_nll)),
        mean_dnll=float(dnll.mean()),
        stderr_dnll=standard_error(dnll),
        model=Perplexity.of(nll, cuts.text_bytes),
        reference=Perplexity.of(reference_nll, cuts.text_bytes),
        tokens=len(kl),
    )


def _rms(values: NDArray[np.float64]) -> float:
    return math.sqrt(float(np.square(values).mean()))
