"""From a prompt's ids to new tokens: the loop, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import _core
from .errors import ContextError
from .sampling import Sampling
from .text_stream import TextStream
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class Usage:
    """What a generation took.

    Attributes:
        prompt_tokens: tokens before the first new one, `cached_tokens` included.
        completion_tokens: new tokens, the end token included.
        cached_tokens: tokens of the prompt that were still in a chat's cache, so that they were not computed again.
        prefill_seconds: time to read the rest of the prompt.
        decode_seconds: time in the model and the sampler after that; what a caller does between pieces is not in it.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    prefill_seconds: float
    decode_seconds: float

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def prefill_tokens_per_second(self) -> float:
        return _rate(self.prompt_tokens - self.cached_tokens, self.prefill_seconds)

    @property
    def tokens_per_second(self) -> float:
        """Speed of decoding. The first new token comes out of the prefill and does not count."""
        return _rate(self.completion_tokens - 1, self.decode_seconds)


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if tokens > 0 and seconds > 0 else 0.0


@dataclass(frozen=True)
class Piece:
    """One token of a stream.

    Attributes:
        text: text that became certain with this token, maybe "". The pieces' texts joined are the whole text.
        token: its id.
        logprob: ln p of the token, or None where log-probabilities were not asked for.
        finish_reason: None but for the last piece: "stop" (end token, stop string) or "length" (max_tokens, context).
    """

    text: str
    token: int
    logprob: float | None
    finish_reason: str | None


@dataclass(frozen=True)
class Result:
    """A finished generation.

    Attributes:
        text: the continuation alone, without special tokens, cut before a stop string; "" without a tokenizer.
        tokens: ids of all new tokens, the end token included.
        logprobs: ln p of each token in nats, or None where they were not asked for.
        finish_reason: "stop" (end token, stop string) or "length" (max_tokens, full context).
        usage: counts and times.
    """

    text: str
    tokens: list[int]
    logprobs: list[float] | None
    finish_reason: str
    usage: Usage


class Generation:
    """One run of the loop on one decoder. `pieces` does the work, as far as it is asked to; `result` sums up.

    Attributes:
        ids: (N,) int32, the prompt and the new tokens so far; the decoder has seen the first `decoder.length` of them.
    """

    def __init__(
        self,
        decoder: _core.Decoder,
        prompt: NDArray[np.int32],
        sampling: Sampling,
        *,
        context: int,
        tokenizer: Tokenizer | None,
    ) -> None:
        """prompt (T,): its first `decoder.length` ids are in the decoder's cache already, and not all of them."""
        check_length(len(prompt), context)
        self._decoder = decoder
        self._sampling = sampling
        self._context = context
        self._text = TextStream(tokenizer, sampling.stop)
        self._buffer = prompt.copy()
        self._prompt_tokens = self._length = len(prompt)
        self._cached_tokens = decoder.length
        self._prefill_seconds = self._decode_seconds = 0.0
        self._pieces: list[Piece] = []

    @property
    def ids(self) -> NDArray[np.int32]:
        return self._buffer[: self._length]

    def pieces(self) -> Iterator[Piece]:
        """Exactly one piece a token."""
        sampler = self._sampling.sampler()
        begin = time.perf_counter()
        logits = self._decoder.prefill(self.ids[self._cached_tokens :])
        self._prefill_seconds = time.perf_counter() - begin
        while True:
            begin = time.perf_counter()
            token, logprob = self._choose(sampler, logits)
            self._decode_seconds += time.perf_counter() - begin
            piece = self._piece(token, logprob)
            self._pieces.append(piece)
            yield piece
            if piece.finish_reason is not None:
                return
            begin = time.perf_counter()
            logits = self._decoder.prefill(self.ids[-1:])
            self._decode_seconds += time.perf_counter() - begin

    def result(self) -> Result:
        """What `pieces` gave; it must have come to its end."""
        pieces = self._pieces
        usage = Usage(
            self._prompt_tokens, len(pieces), self._cached_tokens, self._prefill_seconds, self._decode_seconds
        )
        logprobs = [piece.logprob for piece in pieces if piece.logprob is not None]
        return Result(
            text="".join(piece.text for piece in pieces),
            tokens=[piece.token for piece in pieces],
            logprobs=logprobs if self._sampling.logprobs else None,
            finish_reason=pieces[-1].finish_reason or "length",
            usage=usage,
        )

    def _choose(self, sampler: _core.Sampler, logits: NDArray[np.float32]) -> tuple[int, float | None]:
        allowed = logits
        if self._sampling.suppressed_tokens:
            allowed = logits.copy()
            allowed[[id for id in self._sampling.suppressed_tokens if id < len(logits)]] = -np.inf
        token = sampler.sample(allowed, self.ids)
        return token, _core.log_probability(logits, token) if self._sampling.logprobs else None

    def _piece(self, token: int, logprob: float | None) -> Piece:
        """Appends the token and says what it means."""
        self._append(token)
        text = self._text.push(token)
        ended = token in self._sampling.end_tokens
        new = self._length - self._prompt_tokens
        full = new == self._sampling.max_tokens or self._decoder.length >= self._context
        if ended or full:
            text += self._text.finish()
        if ended or self._text.stopped:
            return Piece(text, token, logprob, "stop")
        return Piece(text, token, logprob, "length" if full else None)

    def _append(self, token: int) -> None:
        if self._length == len(self._buffer):  # doubling keeps the cost of a token constant
            self._buffer = np.concatenate([self._buffer, np.zeros_like(self._buffer)])
        self._buffer[self._length] = token
        self._length += 1


def check_length(tokens: int, context: int) -> None:
    """Raises ContextError where a prompt of so many tokens does not fit."""
    if tokens > context:
        raise ContextError(
            f"the prompt has {tokens} tokens; the context holds {context}",
            remedy="Shorten the prompt, or load the model with a larger context, up to the checkpoint's own.",
            expected=f"at most {context} tokens",
            found=str(tokens),
        )
