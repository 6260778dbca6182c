"""The tensors of a checkpoint as they lie in its files: what each is, how many bits its elements have, its bytes.

Nothing is mapped and nothing read but headers, until values are asked for; those are read from the file, a piece at a
time, so that a look at a checkpoint leaves no trace in memory.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, ResourceError
from .shapes import TextShape, bare_name, layer_number

# Roles of a tensor in its module.
WEIGHT, WEIGHT_SCALE, INPUT_SCALE, OUTPUT_SCALE, CACHE_SCALE = "weight", "scale", "input", "output", "cache"
ROPE_DIVISORS = "rope"  # of rotary angles: part of the config, no parameters

FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1", "U8": "u1", "I32": "<i4", "I64": "<i8"}
_BLOCKS = re.compile(r"Q(\d)_[0-9K]")  # GGUF's types whose blocks hold their scales; the number: bits of a code

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Some rows of a tensor, or a part of a long one.

    Attributes:
        row: the number of the first.
        at: of a part: bytes of the row in front of it.
        bytes: how many they are in the file.
        values: (rows, values of a row) as they are stored, BF16 widened to float32.
    """

    row: int
    at: int
    bytes: int
    values: NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """One tensor: where it lies and what it is.

    Attributes:
        name, dtype, shape: as in the file; dtype in the file's own spelling.
        offset, bytes: where its data begin in `file`, and how long they are.
        module: its name without ".weight" and the like.
        role: WEIGHT, WEIGHT_SCALE, INPUT_SCALE, OUTPUT_SCALE, CACHE_SCALE or ROPE_DIVISORS.
        kind: one of shapes.KINDS.
        bits: of an element, without a block's scales; codes may be packed, several to a byte.
        elements: how many; the words of a packed row may have room for more.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    bytes: int
    file: Path
    module: str
    role: str
    kind: str
    bits: int
    elements: int

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_BYTES

    @property
    def is_blocks(self) -> bool:
        return _BLOCKS.fullmatch(self.dtype) is not None

    @property
    def encoding(self) -> str:
        """How its elements are written: the type's name, or "4-bit" and the like for codes alone."""
        return self.dtype if self.is_float or self.is_blocks else f"{self.bits}-bit"

    @property
    def rows(self) -> int:
        """1 at least: all is one row where there is none, and where rows of small floats begin within a byte."""
        rows = math.prod(self.shape[:-1])
        return rows if rows and self.bytes % rows == 0 else 1

    @property
    def row_bytes(self) -> int:
        return self.bytes // self.rows

    @property
    def columns(self) -> int:
        return self.elements // self.rows

    @property
    def layer(self) -> int | None:
        """The number of the layer that it belongs to."""
        return layer_number(bare_name(self.module))

    def single(self) -> float | None:
        """The value of a tensor that is one float, such as a scale; None of any other."""
        if not self.is_float or self.elements != 1:
            return None
        return float(next(self.pieces()).values.item())

    def packed(self, piece: Piece) -> NDArray[np.uint8]:
        """The bytes of a piece that hold codes, (rows, bytes): a row of words may have room for more."""
        used = max(0, self.columns * self.bits // 8 - piece.at)
        return piece.values.view(np.uint8).reshape(len(piece.values), -1)[:, :used]

    def pieces(self, first: int = 0, count: int | None = None) -> Iterator[Piece]:
        """Rows [first, first + count), if nothing else is said all, in pieces of a megabyte at most."""
        end, row_bytes = self.rows if count is None else first + count, self.row_bytes
        if row_bytes == 0:
            return
        if row_bytes <= _PIECE_BYTES:
            step, part = _PIECE_BYTES // row_bytes, row_bytes
        else:  # a part ends where a number does, or a block; those have 32 or 256 elements
            unit = 256 * row_bytes // self.columns if self.is_blocks else 8
            step, part = 1, _PIECE_BYTES // unit * unit
        for row in range(first, end, step):
            rows = min(step, end - row)
            for at in range(0, row_bytes, part):
                size = rows * min(part, row_bytes - at)
                data = self._read(row * row_bytes + at, size)
                yield Piece(row, at, size, values_of(data, self.dtype).reshape(rows, -1))

    def _read(self, first: int, size: int) -> NDArray[np.uint8]:
        """So many bytes, from the byte `first` on."""
        try:
            data = np.fromfile(self.file, dtype=np.uint8, count=size, offset=self.offset + first)
        except OSError as error:
            raise ResourceError(f"{self.file}: {error.strerror}", file=str(self.file), tensor=self.name) from None
        if data.size != size:
            raise FormatError(f"{self.file}: the file has become shorter", file=str(self.file), tensor=self.name)
        return data


class Tensors(ABC):
    """A checkpoint, seen from its config and its files' headers.

    Attributes:
        path: the folder, or the GGUF file.
        root: the folder that names of its files start from.
        model_type: of config.json; of a GGUF file, its architecture.
        shape: of the text model.
    """

    path: Path
    root: Path
    model_type: str
    shape: TextShape

    @cached_property
    @abstractmethod
    def all(self) -> list[Tensor]:
        """Every tensor, sorted by name."""

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """The files that hold the tensors."""

    @property
    @abstractmethod
    def most_bytes(self) -> int:
        """Bytes of `files`, or a little more, at once."""

    @property
    @abstractmethod
    def tokenizer_bytes(self) -> int:
        """Memory that the tokenizer takes while it is opened; 0 where there is none."""


def values_of(data: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    """The values that a file has as these bytes, BF16 widened to float32; of blocks and packed codes the bytes."""
    values = data.view(_NUMPY.get(dtype, "u1"))
    return (values.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else values


def stored_bits(dtype: str, shape: tuple[int, ...], size: int) -> int:
    """Bits of an element of a type that is not packed, or a block's code."""
    if blocks := _BLOCKS.fullmatch(dtype):
        return int(blocks[1])
    return FLOAT_BYTES.get(dtype, 0) * 8 or max(1, size * 8 // max(1, math.prod(shape)))
