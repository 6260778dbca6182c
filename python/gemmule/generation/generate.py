"""From a prompt's ids to new tokens: one sequence, the loop for it, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import ContextError
from ..text.answer import AnswerStream, Marks
from ..text.tokenizer import Tokenizer
from ..text.tool_calls import AnyToolCall
from .allowed_tokens import AllowedTokens
from .drafting import Drafting
from .likeliest import TokenLogprob, likeliest
from .prefixes import Prefixes
from .sampling import Sampling
from .structure import Structure


class Reader(Protocol):
    """What appends to a sequence's decoder; the decoder does."""

    def prefill(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Ids (T,); gives the logits (V,) behind them."""

    def read(self, ids: NDArray[np.int32]) -> None:
        """Ids (T,)."""


@dataclass(frozen=True)
class Usage:
    """What a generation took.

    Attributes:
        prompt_tokens: tokens before the first new one, `cached_tokens` included.
        completion_tokens: new tokens, the end token included.
        cached_tokens: tokens of the prompt that were still in a cache, the chat's or one that the model keeps, so that
            they were not computed again.
        prefill_seconds: time to read the rest of the prompt.
        decode_seconds: time in the model and the sampler after that; what a caller does between pieces is not in it.
        drafted_tokens: tokens that were guessed, to be checked by the model; 0 without drafting.
        accepted_tokens: of those, the ones that became the text.
        speed_up: about how many times as fast as without drafting that was, by the passes that had no draft; None where
            there were none. Steps shared with other sequences count as what they took.

    Sequences that are generated together share the time of their steps: each one's decode_seconds are those of all
    steps that it was in, so that their sum is longer than it took. Their prompts are read one after the other; what a
    sequence waits for the prompts of others is in none of its figures.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    prefill_seconds: float
    decode_seconds: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    speed_up: float | None = None

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
        finish_reason: None but for the last piece: "stop" (end token, stop string, complete structure) or "length"
            (max_tokens, context).
        context_full: of the last piece: whether the full context ended the text.
        thinking: in a chat, text of the model's thought that became certain with this token; `text` is the answer's.
        tool_calls: in a chat, calls that are complete with this token.
        top_logprobs: the likeliest tokens in its place, the likeliest first; None where they were not asked for.
    """

    text: str
    token: int
    logprob: float | None
    finish_reason: str | None
    context_full: bool = False
    thinking: str = ""
    tool_calls: tuple[AnyToolCall, ...] = ()
    top_logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True)
class Result:
    """A finished generation.

    Attributes:
        text: the continuation alone, without special tokens, cut before a stop string; "" without a tokenizer.
        tokens: ids of all new tokens, the end token included.
        logprobs: ln p of each token in nats, or None where they were not asked for.
        finish_reason: "stop" (end token, stop string, complete structure) or "length" (max_tokens, full context).
        usage: counts and times.
        context_full: whether the full context ended it.
        dropped_turns: in a chat, turns at its beginning that were dropped to make room for this one.
        thinking: in a chat, what the model thought before it answered; None where it did not.
        tool_calls: in a chat, the calls that the model asks for, malformed ones too, in their order.
        top_logprobs: for each token the likeliest ones in its place, the likeliest first, or None likewise.
        structure: what the text had to be.
    """

    text: str
    tokens: list[int]
    logprobs: list[float] | None
    finish_reason: str
    usage: Usage
    context_full: bool = False
    dropped_turns: int = 0
    thinking: str | None = None
    tool_calls: tuple[AnyToolCall, ...] = ()
    top_logprobs: list[list[TokenLogprob]] | None = None
    structure: Structure | None = field(default=None, repr=False)

    @cached_property
    def parsed(self) -> Any:
        """The text as the value that its JSON says, or as an instance of the dataclass that was given as schema. None
        without a schema, where the text was cut off (finish_reason "length"), and where calls stand in its place. What
        a dataclass raises comes as it is."""
        if self.structure is None or self.finish_reason != "stop" or self.tool_calls:
            return None
        return self.structure.parse(self.text)


class Generation:
    """One sequence on its way: it says what the model is to read next, and what the token chosen from the answer means.

    Attributes:
        decoder: has seen the first `decoder.length` of `ids`.
        sampler: of this sequence alone.
        drafting: its drafts; None: plain decoding.
        finish_reason: None until the last piece is there.
        context_full: whether the full context was the reason.
        dropped_turns: for `Result`.
        prefill_seconds, decode_seconds: for `Usage`; kept by whoever runs it.
    """

    def __init__(
        self,
        decoder: _core.Decoder,
        prompt: NDArray[np.int32],
        sampling: Sampling,
        *,
        context: int,
        tokenizer: Tokenizer | None,
        prefixes: Prefixes | None = None,
        marks: Marks | None = None,
        thought_tokens: int | None = None,
        openings: Collection[int] = (),
        drafting: Drafting | None = None,
    ) -> None:
        """prompt (T,): its first `decoder.length` ids are in the decoder's cache already, and not all of them.

        With `marks` thoughts and calls are told from the answer; a thought is ended after `thought_tokens`.
        `openings`: see AllowedTokens.
        """
        check_length(len(prompt), context)
        self.decoder = decoder
        self.sampler = sampling.sampler()
        self.drafting = drafting
        self.finish_reason: str | None = None
        self.context_full = False
        self.dropped_turns = 0
        self.prefill_seconds = self.decode_seconds = 0.0
        self._sampling = sampling
        self._context = context
        self._prefixes = prefixes
        self._tokenizer = tokenizer
        self._answer = AnswerStream(tokenizer, sampling.stop, marks, thought_tokens)
        self._allowed = AllowedTokens(sampling, self._answer, openings)
        self._buffer = prompt.copy()
        self._prompt_tokens = self._length = len(prompt)
        self._cached_tokens = decoder.length
        self._halts: list[int] = []  # where reading the prompt halts, once it has begun
        self._pieces: list[Piece] = []

    @property
    def ids(self) -> NDArray[np.int32]:
        """(N,), the prompt and the new tokens so far."""
        return self._buffer[: self._length]

    @property
    def unread(self) -> NDArray[np.int32]:
        """What the decoder reads next: of the prompt what it has not seen, then the last token."""
        return self.ids[self.decoder.length :]

    def read_prompt(self, reader: Reader, most_tokens: int | None) -> NDArray[np.float32] | None:
        """Reads the prompt on, at most so many tokens. Logits (V,) behind its end; None: it is not there yet."""
        if not self._halts:
            self._halts = [len(self.ids)]
            if self._prefixes is not None:
                self._halts = self._prefixes.halts(self.decoder.length, self.ids)
        last = len(self.ids) if most_tokens is None else self.decoder.length + most_tokens
        while True:
            end = min(self._halts[0], last)
            ids, logits = self.ids[self.decoder.length : end], None
            if end == len(self.ids):
                logits = reader.prefill(ids)
            else:
                reader.read(ids)
            if end == self._halts[0]:
                self._halts.pop(0)
                if self._prefixes is not None:
                    self._prefixes.keep(self.decoder, self.ids[:end])
            if logits is not None or end == last:
                return logits

    @property
    def room(self) -> int:
        """Tokens that may still come, at most."""
        left = self._context + 1 - self._length  # the last one is not read
        new = self._length - self._prompt_tokens
        return left if self._sampling.max_tokens is None else min(left, self._sampling.max_tokens - new)

    def allowed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the sampler may choose from, of logits (V,)."""
        return self._allowed.of(logits, self.ids)

    def append(self, token: int, logits: NDArray[np.float32]) -> Piece:
        """Takes the token that was chosen from logits (V,), those behind all `ids`, and says what it means."""
        logprob = _core.log_probability(logits, token) if self._sampling.logprobs else None
        count = self._sampling.top_logprobs
        top = likeliest(logits, count, self._tokenizer) if count else None
        self._append(token)
        self._allowed.accept(token)
        said = self._answer.push(token)
        ended = token in self._sampling.end_tokens or self._allowed.complete
        new = self._length - self._prompt_tokens
        enough = new == self._sampling.max_tokens
        full = self._length > self._context  # the last one is not read
        if ended or enough or full:
            said += self._answer.finish()
        if ended or self._answer.stopped:
            self.finish_reason = "stop"
        elif enough or full:
            self.finish_reason = "length"
            self.context_full = not enough
        self._pieces.append(
            Piece(said.text, token, logprob, self.finish_reason, self.context_full, said.thinking, said.tool_calls, top)
        )
        return self._pieces[-1]

    def result(self) -> Result:
        """What the pieces say together, once the last one is there."""
        pieces = self._pieces
        usage = Usage(self._prompt_tokens, len(pieces), self._cached_tokens, self.prefill_seconds, self.decode_seconds)
        if self.drafting is not None:
            usage = self.drafting.counted(usage)
        logprobs = [piece.logprob for piece in pieces if piece.logprob is not None]
        top_logprobs = [piece.top_logprobs for piece in pieces if piece.top_logprobs is not None]
        grammar = self._sampling.grammar
        return Result(
            text="".join(piece.text for piece in pieces),
            tokens=[piece.token for piece in pieces],
            logprobs=logprobs if self._sampling.logprobs else None,
            finish_reason=self.finish_reason or "length",
            usage=usage,
            context_full=self.context_full,
            dropped_turns=self.dropped_turns,
            thinking="".join(piece.thinking for piece in pieces) or None,
            tool_calls=tuple(call for piece in pieces for call in piece.tool_calls),
            top_logprobs=top_logprobs if self._sampling.top_logprobs else None,
            structure=grammar.structure if grammar else None,
        )

    def _append(self, token: int) -> None:
        if self._length == len(self._buffer):  # doubling keeps the cost of a token constant
            self._buffer = np.concatenate([self._buffer, np.zeros_like(self._buffer)])
        self._buffer[self._length] = token
        self._length += 1


@overload
def first_piece(run: Generation, reader: Reader) -> Piece: ...
@overload
def first_piece(run: Generation, reader: Reader, most_tokens: int) -> Piece | None: ...
def first_piece(run: Generation, reader: Reader, most_tokens: int | None = None) -> Piece | None:
    """Reads the prompt to its end, or at most so many tokens of it: the next call goes on, as None says."""
    begin = time.perf_counter()
    logits = run.read_prompt(reader, most_tokens)
    run.prefill_seconds += time.perf_counter() - begin
    if logits is None:
        return None
    begin = time.perf_counter()
    token = run.sampler.sample(run.allowed(logits), run.ids)
    run.decode_seconds = time.perf_counter() - begin
    return run.append(token, logits)


def pieces(run: Generation) -> Iterator[Piece]:
    """One sequence by itself: does the work as far as it is asked to. Exactly one piece a token."""
    yield first_piece(run, run.decoder)
    while run.finish_reason is None:
        if run.drafting is not None:
            yield from run.drafting.advance(run)
            continue
        begin = time.perf_counter()
        logits = run.decoder.prefill(run.unread)
        token = run.sampler.sample(run.allowed(logits), run.ids)
        run.decode_seconds += time.perf_counter() - begin
        yield run.append(token, logits)


def finished(run: Generation) -> Result:
    """One sequence by itself, to its end."""
    for _ in pieces(run):
        pass
    return run.result()


def check_length(tokens: int, context: int) -> None:
    """Raises ContextError where a prompt of so many tokens does not fit."""
    if tokens > context:
        raise ContextError(
            f"the prompt has {tokens} tokens; the context holds {context}",
            remedy="Shorten the prompt, or load the model with a larger context, up to the checkpoint's own.",
            expected=f"at most {context} tokens",
            found=str(tokens),
        )
