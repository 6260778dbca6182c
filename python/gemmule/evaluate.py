"""How well a model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import arguments
from .arguments import TokenIds
from .errors import ArgumentError, ContextError, FormatError, MissingFileError
from .model import Model
from .progress import Progress

SCORES = ("second-half", "all")


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


def perplexity(
    model: Model,
    text: str | Path | TokenIds,
    *,
    window: int = 512,
    score: str = "second-half",
    stride: int | None = None,
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
        progress: show a bar with the running value, where standard error is a terminal or a notebook.

    Raises:
        ArgumentError (a ValueError): less than one window, an id out of range, a stride out of range.
        MissingFileError, FormatError: no such file; it is not UTF-8.

    Source: ggml-org/llama.cpp tools/perplexity, for the protocol "second-half".
    """
    arguments.choice("score", score, SCORES)
    window = arguments.integer("window", window, least=3 if score == "second-half" else 2)
    if window > model.context:
        raise ContextError(
            f"window is {window}; the context holds {model.context} tokens",
            remedy="Choose a smaller window.",
            expected=f"at most {model.context}",
            found=str(window),
        )
    if stride is not None and score != "all":
        raise ArgumentError(f'stride is {stride!r}, but windows move by it with score="all" only')
    step = window // 2 if stride is None else arguments.integer("stride", stride, least=1, most=window - 1)

    ids, bos = _ids(model, text)
    if len(ids) < window:
        raise ArgumentError(
            f"the text has {len(ids)} tokens; expected at least one window of {window}",
            remedy="Choose a longer text or a smaller window. A string is read as a file only where such a file is.",
            expected=f"at least {window} tokens",
            found=str(len(ids)),
        )
    windows = list(_second_halves(len(ids), window) if score == "second-half" else _sliding(len(ids), window, step))
    scored: list[NDArray[np.float64]] = []
    with Progress(len(windows), "window", wanted=progress) as bar:
        total = count = 0.0
        for begin, first, end in windows:
            seen = ids[begin:end].copy()
            if bos is not None:
                seen[0] = bos
            nll = -model._new_decoder().score(seen)[first - begin - 1 :]
            scored.append(nll)
            total, count = total + float(nll.sum()), count + len(nll)
            bar.advance(1, f"perplexity {_exp(total / count):.3f}")
    targets = np.concatenate([ids[first:end] for _, first, end in windows])
    return _summary(np.concatenate(scored), _bytes(model, targets))


def _second_halves(length: int, window: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first scored token, end) of each window."""
    for begin in range(0, length - window + 1, window):
        yield begin, begin + window // 2 + 1, begin + window


def _sliding(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first scored token, end) of each window; together they score 1 ... length - 1."""
    first = 1
    for begin in range(0, length, stride):
        end = min(begin + window, length)
        yield begin, first, end
        if end == length:
            return
        first = end


def _ids(model: Model, text: str | Path | TokenIds) -> tuple[NDArray[np.int32], int | None]:
    """The ids, and BOS where windows begin with it."""
    if isinstance(text, (str, Path)):
        tokenizer = model._need_tokenizer()
        ids = tokenizer.encode(_read(text), parse_special=False)
        bos = tokenizer.bos_token_id
    else:
        ids, bos = text, None  # type: ignore[assignment]
    return arguments.token_ids(ids, model.vocab_size), bos


def _read(text: str | Path) -> str:
    """The text itself, or that of the file it names."""
    if isinstance(text, str) and not _names_file(text):
        return text
    file = Path(text)
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{file}: not UTF-8 at byte {error.start}",
            remedy="Convert the file to UTF-8.",
            file=str(file),
            offset=error.start,
            expected="UTF-8",
        ) from None
    except OSError as error:
        raise MissingFileError(f"{file}: {error.strerror}", remedy="Check the path.", file=str(file)) from None


def _names_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or with characters that no path has
        return False


def _bytes(model: Model, ids: NDArray[np.int32]) -> int:
    tokenizer = model.tokenizer
    return 0 if tokenizer is None else tokenizer.byte_length(ids.tolist())


def _summary(nll: NDArray[np.float64], text_bytes: int) -> Perplexity:
    """nll (N,) nats."""
    mean = float(nll.mean())
    return Perplexity(
        mean_nll=mean,
        stderr=math.sqrt(float(nll.var()) / (len(nll) - 1)) if len(nll) > 1 else math.nan,
        perplexity=_exp(mean),
        bits_per_byte=float(nll.sum()) / math.log(2) / text_bytes if text_bytes else None,
        tokens=len(nll),
    )


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
