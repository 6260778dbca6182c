"""How the next token is chosen: what a caller asks for, completed by what the checkpoint says."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from . import _core, arguments
from .checkpoint import GenerationConfig
from .errors import ArgumentError


class GenerationOptions(TypedDict, total=False):
    """The keyword arguments that generate(), stream() and Chat.send() share.

    max_tokens: at most so many new tokens, at least 1 (512); None: until an end token or a full context.
    temperature: 0 is plain argmax (lowest id on ties; the other settings are ignored).
    top_k: 0 is off. top_p: in (0, 1], 1 is off. min_p: in [0, 1], 0 is off. repetition_penalty: over 0, 1 is off.
    seed: in [0, 2**64); None: a fresh one each time. The same seed gives the same text.
    stop: a string or several; the text ends before the first one that appears.
    ignore_eos: go on behind end tokens.
    logprobs: also give ln p of each token, under the model's own distribution (temperature 1, nothing cut off).

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


@dataclass(frozen=True)
class Sampling:
    """GenerationOptions, checked and completed."""

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stop: tuple[str, ...]
    end_tokens: frozenset[int]
    suppressed_tokens: tuple[int, ...]
    logprobs: bool

    @classmethod
    def complete(
        cls,
        defaults: GenerationConfig,
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
    ) -> Sampling:
        """The options, each checked. Raises ArgumentError."""

        def given(value: float | None, default: float) -> float:
            return default if value is None else value

        return cls(
            max_tokens=None if max_tokens is None else arguments.integer("max_tokens", max_tokens, least=1),
            temperature=arguments.real("temperature", given(temperature, defaults.temperature), least=0),
            top_k=arguments.integer("top_k", given(top_k, defaults.top_k), least=0, most=2**31 - 1),
            top_p=arguments.real("top_p", given(top_p, defaults.top_p), least=0, most=1, above=True),
            min_p=arguments.real("min_p", given(min_p, defaults.min_p), least=0, most=1),
            repetition_penalty=arguments.real(
                "repetition_penalty", given(repetition_penalty, defaults.repetition_penalty), least=0, above=True
            ),
            seed=secrets.randbits(64) if seed is None else arguments.integer("seed", seed, least=0, most=2**64 - 1),
            stop=_stop_strings(stop),
            end_tokens=frozenset() if ignore_eos else defaults.end_tokens,
            suppressed_tokens=defaults.suppressed_tokens,
            logprobs=bool(logprobs),
        )

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


def _stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    for string in strings:
        if not isinstance(string, str) or not string:
            raise ArgumentError(
                f"a stop string is {string!r}; expected a string that is not empty",
                expected="a string that is not empty",
                found=repr(string),
            )
    return strings
