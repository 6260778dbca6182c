"""Gemmule behind the calls of engine_worker.py. Tokens are given, not sampled: both engines do the same work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gemmule
from gemmule import _core
from gemmule.checkpoints.memory import own_bytes


class Engine:
    def load(self, path: str, threads: int, context: int, sequences: int = 1, **settings: Any) -> dict[str, Any]:
        """sequences: how many are read and decoded together. settings: more arguments of gemmule.load. Returns what was
        loaded."""
        self.sequences = sequences
        self.model = gemmule.load(path, threads=threads, context=context, prefix_cache=0, **settings)
        return {
            "version": gemmule.__version__,
            "target": gemmule.cpu()["target"],
            "threads": self.model.threads,
            "activations": self.model.info["activations"],
            "kv": self.model.info["kv"],
            "sequences": sequences,
        }

    def prefill(self, tokens: list[int]) -> dict[str, Any]:
        """Reads a new sequence in one call, or one after the other."""
        self.batch = _core.Batch(self.model._core)
        self.decoders = [_core.Decoder(self.model._core) for _ in range(self.sequences)]
        calls = [partial(decoder.prefill, np.array(tokens, np.int32)) for decoder in self.decoders]
        return self._timed(calls)

    def decode(self, tokens: list[int]) -> dict[str, Any]:
        """Appends tokens one by one, with logits behind each; to several sequences in different orders."""
        each = np.stack([np.roll(np.array(tokens, np.int32), place) for place in range(self.sequences)], axis=1)
        if self.sequences == 1:
            return self._timed([partial(self.decoders[0].prefill, ids) for ids in each])
        return self._timed([partial(self.batch.step, self.decoders, ids) for ids in each])

    def _timed(self, calls: Sequence[Callable[[], NDArray[np.float32]]]) -> dict[str, Any]:
        begin = time.perf_counter()
        for call in calls:
            self.last = call()
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "finite": bool(np.isfinite(self.last).all())}

    def save_logits(self, file: str) -> dict[str, Any]:
        """Those of the last token that was read, to a .npy file."""
        np.save(file, self.last)
        return {}

    def first_token(self, path: str, threads: int, context: int, text: str) -> dict[str, Any]:
        """From nothing loaded to the first new token of a text."""
        begin = time.perf_counter()
        model = gemmule.load(path, threads=threads, context=context)
        piece = next(model.stream(text, max_tokens=1, temperature=0, logprobs=False))
        return {"seconds": time.perf_counter() - begin, "finite": 0 <= piece.token < model.vocab_size}

    def generate(self, text: str, max_tokens: int) -> dict[str, Any]:
        """Text in, text out, as the checkpoint says it is sampled. Returns the most memory this process has had."""
        result = self.model.generate(text, max_tokens=max_tokens, seed=0, ignore_eos=True)
        return {
            "peak_resident_bytes": own_bytes("VmHWM"),
            "prompt_tokens": result.usage.prompt_tokens,
            "new_tokens": len(result.tokens),
        }

    def turn(self, message: str, max_tokens: int) -> dict[str, Any]:
        """One turn of a chat. Returns the seconds of the whole call, of decoding steps in the model, of all of the
        model."""
        clocked = _Clocked(self.model)
        self.model._prefixes.new_decoder = lambda: clocked  # type: ignore[assignment, return-value]
        begin = time.perf_counter()
        result = self.model.generate(
            [{"role": "user", "content": message}], max_tokens=max_tokens, seed=0, ignore_eos=True
        )
        seconds = time.perf_counter() - begin
        return {
            "seconds": seconds,
            "prompt_tokens": result.usage.prompt_tokens,
            "model_seconds": sum(clocked.seconds),
            "step_seconds": clocked.seconds[1:],  # the first one reads the prompt
        }


class _Clocked:
    """A decoder that notes how long its calls take."""

    def __init__(self, model: gemmule.Model) -> None:
        self._decoder = _core.Decoder(model._core)
        self.seconds: list[float] = []

    @property
    def length(self) -> int:
        return self._decoder.length

    @property
    def cache_bytes(self) -> int:
        return self._decoder.cache_bytes

    def prefill(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        begin = time.perf_counter()
        logits = self._decoder.prefill(ids)
        self.seconds.append(time.perf_counter() - begin)
        return logits
