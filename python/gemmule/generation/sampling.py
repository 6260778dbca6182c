"""How the next token is chosen: what a caller asks for, completed by what the checkpoint says."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments
from ..checkpoints.checkpoint import GenerationConfig
from ..errors import ArgumentError
from .grammar import Grammar, Grammars
from .structure import Schema, Structure

# Called with the ids so far (N,), not to be written to, and logits (V,) float32 that may be changed in place.
LogitsProcessor = Callable[[NDArray[np.int32], NDArray[np.float32]], NDArray[np.float32] | None]

_MOST_TOP_LOGPROBS = 1000
_MOST_BIAS = 1e30  # a sum with a logit stays finite


class GenerationOptions(TypedDict, total=False):
    """The keyword arguments that generate(), stream() and Chat.send() share.

    max_tokens: at most so many new tokens, at least 1 (512); None: until an end token or a full context.
    temperature: 0 is plain argmax (lowest id on ties; the other settings are ignored).
    top_k: 0 is off. top_p: in (0, 1], 1 is off. min_p: in [0, 1], 0 is off. repetition_penalty: over 0, 1 is off.
    seed: in [0, 2**64); None: a fresh one each time. The same seed gives the same text.
    stop: a string or several; the text ends before the first one that appears.
    ignore_eos: go on behind end tokens.
    logprobs: also give ln p of each token, under the model's own distribution (temperature 1, nothing cut off).
    top_logprobs: also give, for each token, the so many likeliest ones in its place, in 0..1000; 0 is off.
    logit_bias: token id -> what is added to its logit; -inf forbids it.
    logits_processors: see LogitsProcessor.
    schema, regex, grammar: what the answer must be, see Structure; at most one of them.
    draft: who guesses tokens that the model then checks together: see `drafting`.

    Settings of sampling that are None are the checkpoint's own (generation_config.json).
    """

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool
    logprobs: bool
    top_logprobs: int
    logit_bias: Mapping[int, float] | None
    logits_processors: Sequence[LogitsProcessor] | None
    schema: Schema | None
    regex: str | None
    grammar: str | None
    draft: str | None


DRAFTS = ("auto", "prompt-lookup")


@dataclass(frozen=True, eq=False)
class Sampling:
    """GenerationOptions, checked and completed.

    Attributes:
        biased_ids, biases: (B,) ids and float32: `logit_bias`, and -inf for the tokens that the checkpoint suppresses.
        grammar: that of schema, regex or grammar.
    """

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stop: tuple[str, ...]
    end_tokens: frozenset[int]
    logprobs: bool
    top_logprobs: int
    biased_ids: NDArray[np.int64]
    biases: NDArray[np.float32]
    logits_processors: tuple[LogitsProcessor, ...]
    grammar: Grammar | None
    draft: str | None = "auto"

    @classmethod
    def complete(
        cls,
        defaults: GenerationConfig,
        grammars: Grammars,
        *,
        max_tokens: int | None = 512,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool = False,
        logprobs: bool = False,
        top_logprobs: int = 0,
        logit_bias: Mapping[int, float] | None = None,
        logits_processors: Sequence[LogitsProcessor] | None = None,
        schema: Schema | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        draft: str | None = "auto",
        **unknown: object,
    ) -> Sampling:
        """The options, each checked. Raises ArgumentError, and UnsupportedError as `Grammars.compile` does; TypeError,
        as Python does, for an argument that none of those who pass theirs on to here has."""
        for name in unknown:
            raise TypeError(f"unexpected keyword argument {name!r}; the options are those of Model.generate()")

        def given(value: float | None, default: float) -> float:
            return default if value is None else value

        stop_strings, ignore_eos = _stop_strings(stop), arguments.flag("ignore_eos", ignore_eos)
        structure = Structure.asked(schema=schema, regex=regex, grammar=grammar)
        if structure is not None and (stop_strings or ignore_eos):
            found = "stop" if stop_strings else "ignore_eos"
            raise ArgumentError(
                f"{found} and {structure.kind} are given; the {structure.kind} alone says where the answer ends",
                remedy=f"Leave {found} out.",
                found=found,
            )
        bias = _bias(logit_bias, grammars.vocab_size)
        bias |= {id: -math.inf for id in defaults.suppressed_tokens if id < grammars.vocab_size}
        return cls(
            max_tokens=None if max_tokens is None else arguments.integer("max_tokens", max_tokens, least=1),
            temperature=arguments.real("temperature", given(temperature, defaults.temperature), least=0),
            top_k=arguments.integer("top_k", given(top_k, defaults.top_k), least=0, most=2**31 - 1),
            top_p=arguments.real("top_p", given(top_p, defaults.top_p), least=0, most=1, above=True),
            min_p=arguments.real("min_p", given(min_p, defaults.min_p), least=0, most=1),
            repetition_penalty=arguments.real(
                "repetition_penalty", given(repetition_penalty, defaults.repetition_penalty), least=0, above=True
            ),
            seed=_seed() if seed is None else arguments.integer("seed", seed, least=0, most=2**64 - 1),
            stop=stop_strings,
            end_tokens=frozenset() if ignore_eos else defaults.end_tokens,
            logprobs=arguments.flag("logprobs", logprobs),
            top_logprobs=arguments.integer("top_logprobs", top_logprobs, least=0, most=_MOST_TOP_LOGPROBS),
            biased_ids=np.array(list(bias), np.int64),
            biases=np.array(list(bias.values()), np.float32),
            logits_processors=_processors(logits_processors),
            grammar=None if structure is None else grammars.compile(structure),
            draft=None if draft is None else arguments.choice("draft", draft, DRAFTS),
        )

    def with_fresh_seed(self) -> Sampling:
        return replace(self, seed=_seed())

    def sampler(self) -> _core.Sampler:
        """A new sampler with these settings, at the beginning of its seed's sequence."""
        return _core.Sampler(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )


def _seed() -> int:
    return secrets.randbits(64)


def _bias(bias: Mapping[int, float] | None, vocab_size: int) -> dict[int, float]:
    if bias is None:
        return {}
    if not isinstance(bias, Mapping):
        raise ArgumentError(f"logit_bias is {arguments.shown(bias)}; expected a dict of token ids", expected="a dict")
    checked = {}
    for id, value in bias.items():
        place = arguments.integer("an id in logit_bias", id, least=0, most=vocab_size - 1)
        forbids = isinstance(value, (float, np.floating)) and value == -math.inf
        name = f"logit_bias[{place}]"
        checked[place] = value if forbids else arguments.real(name, value, least=-_MOST_BIAS, most=_MOST_BIAS)
    return checked


def _processors(processors: Sequence[LogitsProcessor] | None) -> tuple[LogitsProcessor, ...]:
    if processors is None:
        return ()
    if not isinstance(processors, Sequence) or not all(map(callable, processors)):
        raise ArgumentError(
            f"logits_processors is {arguments.shown(processors)}; expected a list of callables",
            expected="a list of callables",
        )
    return tuple(processors)


def _stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    try:
        strings = (stop,) if isinstance(stop, str) else tuple(stop)
    except TypeError:
        raise arguments.refused("stop", stop, "a string or a list of strings") from None
    for string in strings:
        if not isinstance(string, str) or not string:
            raise arguments.refused("a stop string", string, "a string that is not empty")
    return strings
