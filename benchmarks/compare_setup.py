"""Files that compare.py measures on, and how much work a turn is."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import e2b_checkpoint
import gguf_checkpoint
import program
import text_folder
from engine_process import Side
from gemmule import Tokenizer
from gemmule.benchmark import machine
from gguf_checkpoint import GgufCheckpoint


@dataclass(frozen=True)
class Sizes:
    """Of the work of one turn, in tokens."""

    shape: str  # of e2b_checkpoint and gguf_checkpoint
    experts_shape: str
    prompt: int = 512
    decoded: int = 32
    sequences: int = 8  # that are decoded together
    short_prompt: int = 32  # before the decoded ones, and of the first token
    long_context: int = 32768
    long_decoded: int = 8
    text_context: int = 4096
    text_new: int = 512
    message: int = 128  # of a turn, its answer as many

    @property
    def context(self) -> int:
        """Of the turns that are not about long ones."""
        return self.prompt + self.short_prompt + self.decoded


E2B = Sizes("e2b", "a4b")
SMALL = Sizes(
    "small",
    "small-a4b",
    prompt=24,
    decoded=4,
    short_prompt=8,
    long_context=256,
    long_decoded=2,
    text_context=128,
    text_new=16,
    message=16,
)


@dataclass(frozen=True)
class Setup:
    """Files, and how they are run."""

    folder: Path
    sizes: Sizes
    threads: int
    repeat: int
    seed: int

    @cached_property
    def checkpoint(self) -> e2b_checkpoint.Checkpoint:
        return e2b_checkpoint.find_or_write(self.folder, self.sizes.shape, self.seed)

    @cached_property
    def text_files(self) -> Path:
        """The mobile checkpoint with a tokenizer."""
        return text_folder.find_or_write(self.folder, self.checkpoint.folder, self.vocab_size)

    @cached_property
    def q4_0(self) -> GgufCheckpoint:
        return gguf_checkpoint.find_or_write(self.folder, self.sizes.shape, self.text_files, self.seed)

    @cached_property
    def a4b(self) -> GgufCheckpoint:
        return gguf_checkpoint.find_or_write(self.folder, self.sizes.experts_shape, self.text_files, self.seed)

    @property
    def vocab_size(self) -> int:
        return int(self.checkpoint.parameters["vocab_size"])

    @cached_property
    def _bench(self) -> machine.Bench:
        size = program.SMALL_ARRAY_BYTES if self.sizes == SMALL else machine.ARRAY_BYTES
        return machine.Bench(self.threads, machine.random_bytes(size))

    def read_bandwidth(self) -> float:
        """Bytes per second that the threads read now, from memory."""
        del self._bench.reads[:]
        for _ in range(3):
            self._bench.read()
        return statistics.median(self._bench.reads)

    def gemmule(self, path: Path, *, environment: dict[str, str] | None = None, **load: Any) -> Side:
        """load: arguments of gemmule.load in place of the usual ones."""
        return Side("gemmule", self._usual(path) | load, environment or {})

    def llama_cpp(self, path: Path, **load: Any) -> Side:
        return Side("llama_cpp", self._usual(path) | {"flash_attention": True} | load)

    def _usual(self, path: Path) -> dict[str, Any]:
        return {"path": str(path), "threads": self.threads, "context": self.sizes.context}

    def tokens(self, count: int) -> list[int]:
        """Random ordinary ones."""
        drawn = np.random.default_rng(self.seed).integers(self.vocab_size // 2, self.vocab_size, count)
        numbers: list[int] = drawn.tolist()
        return numbers

    def text(self, tokens: int) -> str:
        """A text of so many tokens, <bos> included, or one or two fewer where the next word has more than one."""
        tokenizer = Tokenizer.from_pretrained(self.text_files)
        words = (self.text_files / "text.txt").read_text()[: 20 * tokens].split(" ")

        def length(count: int) -> int:
            return len(tokenizer.encode(" ".join(words[:count])))

        return " ".join(words[: bisect_right(range(len(words)), tokens, key=length) - 1])
