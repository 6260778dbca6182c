"""The tensors of a GGUF model, seen from its headers, which the engine's own reader reads and checks."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

from .. import _core
from .shapes import NORMS, TextShape
from .tensors import ROPE_DIVISORS, WEIGHT, Tensor, Tensors, stored_bits

_ROPE_DIVISORS = "rope_freqs.weight"


class GgufTensors(Tensors):
    """Of a GGUF file, or of all parts of a split one.

    Raises what loading it would: FormatError, UnsupportedError, ResourceError.
    """

    def __init__(self, file: Path) -> None:
        self._headers = _core.GgufHeaders(str(file))
        self.path = file
        # A file on the hub may lie in a folder of its repository.
        self.root = next((folder for folder in file.parents if folder.parent.name == "snapshots"), file.parent)
        self.model_type = self._headers.architecture
        self.shape = TextShape.of_engine(self._headers.config)

    @cached_property
    def all(self) -> list[Tensor]:
        names = self._headers.hf_names
        return [self._tensor(names[listed[0]], *listed) for listed in self._headers.tensors]

    @property
    def files(self) -> list[Path]:
        return [Path(file) for file in self._headers.files]

    @property
    def most_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def tokenizer_bytes(self) -> int:
        """As cpp/text/ makes it: views of all texts, then entries, merges, and a hash table for each of the two."""
        tokens, text_bytes, merges = self._headers.vocabulary
        kinds, views = 4 * _doubled(tokens), 16 * (tokens + merges)
        scores = 0 if merges else 2 * 4 * _doubled(tokens)
        return views + kinds + scores + text_bytes + _hashed(tokens) + _hashed(merges)

    def _tensor(
        self, hf_name: str, name: str, dtype: str, shape: tuple[int, ...], offset: int, size: int, file: str
    ) -> Tensor:
        bits = stored_bits(dtype, shape, size)
        module, role = name.removesuffix(".weight"), WEIGHT
        kind = self.shape.kind(hf_name.removesuffix(".weight"))
        if name == _ROPE_DIVISORS:
            kind, role = NORMS, ROPE_DIVISORS
        return Tensor(name, dtype, shape, offset, size, Path(file), module, role, kind, bits, math.prod(shape))


def _doubled(count: int) -> int:
    """Elements that an array which doubles its size has room for."""
    return 1 << (count - 1).bit_length() if count else 0


def _hashed(count: int) -> int:
    """Bytes of `count` entries of 12 bytes and of a table of 8-byte slots, at most half full, that has just grown."""
    return 12 * count + (16 + 8) * _doubled(count)
