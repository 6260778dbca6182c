"""A model without an engine, for tests of everything around it: it says what a script tells it to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gemmule import Model

FIXTURES = Path(__file__).parent / "fixtures"
TOKENIZER = FIXTURES / "tokenizer"
TURN_END = 622  # <turn|> in the tokenizer fixture


@dataclass
class FakeCore:
    """Stands for `_core.Model`. `next_token` gives the likeliest id after a list of ids."""

    next_token: Callable[[list[int]], int]
    vocab_size: int = 640
    context: int = 256
    threads: int = 1
    activations: str = "float32"
    kv: str = "float32"
    info: dict[str, Any] = field(default_factory=dict)
    can_rewind: bool = True
    prefilled: list[list[int]] = field(default_factory=list)  # what every call of every decoder was given
    read: list[list[int]] = field(default_factory=list)  # of those, what came without logits
    steps: list[int] = field(default_factory=list)  # sequences of every step of every batch
    fail_at: int | None = None  # a sequence's length at which prefill raises KeyboardInterrupt


class FakeDecoder:
    """Stands for `_core.Decoder`: the likeliest id has probability 1/2, the others share the rest."""

    cache_bytes = 1

    def __init__(self, core: FakeCore) -> None:
        self.core = core
        self.ids: list[int] = []

    @property
    def length(self) -> int:
        return len(self.ids)

    def prefill(self, ids: np.ndarray) -> np.ndarray:
        self._append(ids)
        return self._row(self.ids)

    def read(self, ids: np.ndarray) -> None:
        self._append(ids)
        self._row(self.ids)  # takes its time
        self.core.read.append(ids.tolist())

    def _append(self, ids: np.ndarray) -> None:
        assert ids.dtype == np.int32
        assert ids.ndim == 1
        assert len(ids) >= 1
        for token in ids.tolist():
            if self.length == self.core.fail_at:
                raise KeyboardInterrupt
            self.ids.append(token)
        assert self.length <= self.core.context
        self.core.prefilled.append(ids.tolist())

    def logits(self, ids: np.ndarray) -> np.ndarray:
        return np.stack([self.prefill(ids[place : place + 1]) for place in range(len(ids))])

    def score(self, ids: np.ndarray, first: int) -> np.ndarray:
        logits = self.logits(ids).astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logs[np.arange(first - 1, len(ids) - 1), ids[first:]]

    def rewind(self, length: int) -> bool:
        if self.core.can_rewind:
            del self.ids[length:]
        return self.core.can_rewind

    def fork(self) -> "FakeDecoder":
        twin = FakeDecoder(self.core)
        twin.ids = list(self.ids)
        return twin

    def _row(self, ids: list[int]) -> np.ndarray:
        row = np.zeros(self.core.vocab_size, np.float32)
        row[self.core.next_token(ids)] = np.log(self.core.vocab_size - 1)
        return row


class FakeBatch:
    """Stands for `_core.Batch`, and notes how many sequences every step had."""

    def __init__(self, core: FakeCore) -> None:
        self.core = core

    def prefill(self, decoder: FakeDecoder, ids: np.ndarray) -> np.ndarray:
        return decoder.prefill(ids)

    def read(self, decoder: FakeDecoder, ids: np.ndarray) -> None:
        decoder.read(ids)

    def step(self, decoders: list[FakeDecoder], ids: np.ndarray) -> np.ndarray:
        assert ids.dtype == np.int32
        self.core.steps.append(len(decoders))
        return np.stack([each.prefill(ids[place : place + 1]) for place, each in enumerate(decoders)])

    def sample(self, samplers: list[Any], logits: list[np.ndarray], histories: list[np.ndarray]) -> list[int]:
        return [each.sample(*row) for each, *row in zip(samplers, logits, histories, strict=True)]


class FakeModel(Model):
    """A real `Model` on a fake engine."""

    def _new_batch(self) -> Any:
        return FakeBatch(self._core)  # type: ignore[arg-type]

    def _new_decoder(self) -> Any:
        return FakeDecoder(self._core)  # type: ignore[arg-type]


def says(tokens: list[int], *, prompt_length: int) -> Callable[[list[int]], int]:
    """Says these tokens after a prompt of this length, then ends its turn again and again."""

    def next_token(ids: list[int]) -> int:
        place = len(ids) - prompt_length
        return tokens[place] if 0 <= place < len(tokens) else TURN_END

    return next_token


class Script:
    """Says the ids of one turn after another, each to its end, and keeps the prompts."""

    def __init__(self, *turns: list[int]) -> None:
        self.turns = turns
        self.prompts: list[list[int]] = []
        self._seen: list[int] | None = None

    def __call__(self, ids: list[int]) -> int:
        if self._seen is None or ids[:-1] != self._seen:
            self.prompts.append(list(ids))
            self._rest = iter(self.turns[len(self.prompts) - 1])
        self._seen = list(ids)
        return next(self._rest, TURN_END)


def fake_model(folder: Path, next_token: Callable[[list[int]], int], **options: Any) -> FakeModel:
    """A fake model with the files in `folder`."""
    return FakeModel(FakeCore(next_token, **options), folder)  # type: ignore[arg-type]
