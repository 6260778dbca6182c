"""Which tokens of a text are scored, and what a model sees of the text before each: the protocol of every measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..arguments import TokenIds
from ..errors import ArgumentError, ContextError, FormatError, MissingFileError
from ..model import Model

SCORES = ("second-half", "all")


@dataclass(frozen=True)
class Windows:
    """Iteration gives of each window the ids that models see, (T,) int32, and the place in it of the first scored one.

    Attributes:
        ids: (N,) int32, the whole text.
        bos: what every window begins with; None: with its own first token.
        spans: (begin, first scored token, end) of each window.
        text_bytes: UTF-8 bytes of the scored tokens' text, in which special tokens count nothing; 0 without a
            tokenizer.
    """

    ids: NDArray[np.int32]
    bos: int | None
    spans: Sequence[tuple[int, int, int]]
    text_bytes: int

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], int]]:
        for begin, first, end in self.spans:
            seen = self.ids[begin:end].copy()
            if self.bos is not None:
                seen[0] = self.bos
            yield seen, first - begin


def cut(
    text: str | Path | TokenIds,
    models: Sequence[Model],
    *,
    window: int,
    score: str,
    stride: int | None,
    windows: int | None,
) -> Windows:
    """The windows of a text, for models that all see the same ids. Arguments and errors are those of `perplexity`;
    ArgumentError also where the models' tokenizers give different ids."""
    require_models(models)
    arguments.choice("score", score, SCORES)
    window = arguments.integer("window", window, least=3 if score == "second-half" else 2)
    context = min(model.context for model in models)
    if window > context:
        raise ContextError(
            f"window is {window}; the context holds {context} tokens",
            remedy="Choose a smaller window.",
            expected=f"at most {context}",
            found=str(window),
        )
    if stride is not None and score != "all":
        raise ArgumentError(f'stride is {arguments.shown(stride)}, but windows move by it with score="all" only')
    step = window // 2 if stride is None else arguments.integer("stride", stride, least=1, most=window - 1)
    most = None if windows is None else arguments.integer("windows", windows, least=1)

    ids, bos = _ids(text, models)
    _require(ids, window, f"one window of {window}", "Choose a longer text or a smaller window.")
    all_spans = _second_halves(len(ids), window) if score == "second-half" else _sliding(len(ids), window, step)
    spans = list(islice(all_spans, most))
    scored = np.concatenate([ids[first:end] for _, first, end in spans])
    return Windows(ids, bos, spans, _text_bytes(scored, models))


def require_models(models: Sequence[object]) -> None:
    """Raises ArgumentError for what is no model, such as the name of one."""
    for model in models:
        if not isinstance(model, Model):
            raise arguments.refused("the model", model, "a Model", remedy="Load it first: gemmule.load(...).")


def spread(text: str | Path | TokenIds, model: Model, *, window: int, windows: int, least: int) -> Windows:
    """Windows that lie evenly over a text, all of one length and without overlap: a sample of it that nobody scores.

    Args:
        text: as for `perplexity`.
        window, windows: tokens of one, and how many, at most: a short text gives fewer, one shorter than a window a
            single one.
        least: tokens that the text must have.

    Raises:
        ArgumentError, MissingFileError, FormatError: as `perplexity` does.
    """
    ids, bos = _ids(text, [model])
    _require(ids, least, str(least), "Choose a longer text.")
    length = min(window, model.context, len(ids))
    begins = np.linspace(0, len(ids) - length, min(windows, len(ids) // length)).astype(int).tolist()
    return Windows(ids, bos, [(begin, begin + 1, begin + length) for begin in begins], 0)


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


def _ids(text: str | Path | TokenIds, models: Sequence[Model]) -> tuple[NDArray[np.int32], int | None]:
    """The ids, and BOS where windows begin with it."""
    vocab_size = min(model.vocab_size for model in models)
    if not isinstance(text, (str, Path)):
        return arguments.token_ids(text, vocab_size, name="the text"), None
    tokenizers = [model.tokenizer for model in models if model.tokenizer] or [models[0]._need_tokenizer()]
    content = _read(text)
    ids, *others = (tokenizer.encode(content, parse_special=False) for tokenizer in tokenizers)
    for other in others:
        _require_same(ids, other)
    return arguments.token_ids(ids, vocab_size, name="the text"), tokenizers[0].bos_token_id


def _require(ids: NDArray[np.int32], least: int, what: str, remedy: str) -> None:
    """Raises ArgumentError where the text has less than `least` tokens, in words `what`."""
    if len(ids) < least:
        raise ArgumentError(
            f"the text has {len(ids)} tokens; expected at least {what}",
            remedy=f"{remedy} A string is read as a file only where such a file is.",
            expected=f"at least {least} tokens",
            found=str(len(ids)),
        )


def _require_same(ids: list[int], other: list[int]) -> None:
    place = next((i for i in range(max(len(ids), len(other))) if ids[i : i + 1] != other[i : i + 1]), None)
    if place is None:
        return
    found = f"{ids[place : place + 1]} and {other[place : place + 1]} at position {place}"
    raise ArgumentError(
        f"the tokenizers of the two models read this text as different tokens: {found}",
        remedy="Compare checkpoints of one tokenizer; or pass token ids, if these are meant to mean the same.",
        expected="the same token ids",
        found=found,
    )


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


def _text_bytes(ids: NDArray[np.int32], models: Sequence[Model]) -> int:
    tokenizer = next((model.tokenizer for model in models if model.tokenizer), None)
    return 0 if tokenizer is None else tokenizer.byte_length(ids)
