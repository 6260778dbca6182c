"""The tensors of a checkpoint as they lie in its files: what each is, how many bits its elements have, its bytes.

Nothing is mapped and nothing read but headers, until values are asked for; those are read from the file, a piece at a
time, so that a look at a checkpoint leaves no trace in memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core, checkpoint
from .errors import FormatError, ResourceError, UnsupportedError
from .shapes import TextShape, bare_name

# Roles of a tensor in its module.
WEIGHT, WEIGHT_SCALE, INPUT_SCALE, OUTPUT_SCALE, CACHE_SCALE = "weight", "scale", "input", "output", "cache"

_SUFFIXES = {
    ".weight": WEIGHT,
    ".embedding_quantized": WEIGHT,
    ".weight_packed": WEIGHT,
    ".weight_scale": WEIGHT_SCALE,
    ".embedding_scale": WEIGHT_SCALE,
    ".weight_zero_point": WEIGHT_SCALE,
    ".weight_shape": WEIGHT_SCALE,
    ".input_activation_scale": INPUT_SCALE,
    ".input_scale": INPUT_SCALE,
    ".output_activation_scale": OUTPUT_SCALE,
    ".output_scale": OUTPUT_SCALE,
    ".k_cache_scale": CACHE_SCALE,
    ".v_cache_scale": CACHE_SCALE,
}

_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1", "U8": "u1", "I32": "<i4", "I64": "<i8"}

_PIECE_BYTES = 4 << 20


@dataclass(frozen=True)
class Tensor:
    """One tensor: where it lies and what it is.

    Attributes:
        name, dtype, shape: as in the file; dtype in the file's own spelling.
        offset, bytes: where its data begin in `file`, and how long they are.
        module: its name without ".weight" and the like.
        role: WEIGHT, WEIGHT_SCALE, INPUT_SCALE, OUTPUT_SCALE or CACHE_SCALE.
        kind: one of shapes.KINDS.
        bits: of an element; codes may be packed, several to a byte.
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
        return self.dtype in _FLOAT_BYTES

    @property
    def encoding(self) -> str:
        """How its elements are written: a float type's name, or "4-bit" and the like."""
        return self.dtype if self.is_float else f"{self.bits}-bit"

    @property
    def rows(self) -> int:
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def layer(self) -> int | None:
        """The number of the layer that it belongs to."""
        match = re.match(r"layers\.(\d+)\.", bare_name(self.module))
        return int(match[1]) if match else None

    def read_rows(self, first: int, count: int) -> NDArray[Any]:
        """Rows [first, first + count) as they are stored, (count, values of a row); BF16 widened to float32."""
        row_bytes = self.bytes // self.rows
        try:
            data = np.fromfile(
                self.file, dtype=np.uint8, count=count * row_bytes, offset=self.offset + first * row_bytes
            )
        except OSError as error:
            raise ResourceError(f"{self.file}: {error.strerror}", file=str(self.file), tensor=self.name) from None
        if data.size != count * row_bytes:
            raise FormatError(f"{self.file}: the file has become shorter", file=str(self.file), tensor=self.name)
        values = data.view(_NUMPY.get(self.dtype, "u1")).reshape(count, -1)
        return (values.astype(np.uint32) << 16).view(np.float32) if self.dtype == "BF16" else values

    def pieces(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """All rows in pieces of a few megabytes: (number of the first row, rows)."""
        if self.bytes == 0:
            return
        step = max(1, _PIECE_BYTES * self.rows // self.bytes)
        for first in range(0, self.rows, step):
            yield first, self.read_rows(first, min(step, self.rows - first))


class Tensors:
    """A checkpoint's folder, seen from its config and its files' headers."""

    def __init__(self, folder: Path) -> None:
        if checkpoint.is_gguf(folder):
            raise UnsupportedError(
                f"{folder}: inspect, estimate and verify do not read GGUF files",
                remedy="gemmule.load(path).info says what the file holds, and loading checks its headers.",
                file=str(folder),
            )
        checkpoint.require_file(folder / "config.json")
        self.folder = folder
        self.config, self.shape = read_shape(folder)
        self._matrices = self.shape.matrices()
        self._rules = _bit_rules(self.config)
        self.all = [self._tensor(*listed) for listed in _core.tensors(str(folder))]

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @cached_property
    def files(self) -> list[Path]:
        """The files that hold the tensors."""
        return sorted({tensor.file for tensor in self.all})

    def _tensor(self, name: str, dtype: str, shape: tuple[int, ...], offset: int, size: int, file: str) -> Tensor:
        module, role = _module(name)
        kind = self.shape.kind(module)
        bits = self._bits(module, dtype, shape, size) if role == WEIGHT else _stored_bits(dtype, shape, size)
        elements = size * 8 // bits
        if role == WEIGHT and dtype == "I32":
            elements = math.prod(self._matrices.get(bare_name(module), (elements,)))
        return Tensor(name, dtype, shape, offset, size, Path(file), module, role, kind, bits, elements)

    def _bits(self, module: str, dtype: str, shape: tuple[int, ...], size: int) -> int:
        """Bits of a weight's element. How many codes are packed into a byte follows from the matrix's shape."""
        if dtype in _FLOAT_BYTES or dtype == "I8":
            return _stored_bits(dtype, shape, size)
        rows, columns = self._matrices.get(bare_name(module), (0, 0))
        if dtype == "I32" and len(shape) == 2:  # a row ends with its last word
            fitting = [bits for bits in (2, 4, 8) if (columns * bits + 31) // 32 == shape[1]]
            return fitting[0] if fitting else _stored_bits(dtype, shape, size)
        if rows * columns and size * 8 % (rows * columns) == 0:
            return size * 8 // (rows * columns)
        return next((bits for rule, bits in self._rules if re.search(rule, module)), _stored_bits(dtype, shape, size))


def read_shape(folder: Path) -> tuple[dict[str, Any], TextShape]:
    """config.json and what it asks for. Raises FormatError where it is no text model's."""
    file = folder / "config.json"
    config = checkpoint.read_json(file)
    try:
        return config, TextShape.read(config)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FormatError(
            f"{file}: not the config of a Gemma 4 text model: {error!r}",
            remedy="Download the file again.",
            file=str(file),
        ) from None


def _module(name: str) -> tuple[str, str]:
    for suffix, role in _SUFFIXES.items():
        if name.endswith(suffix):
            return (name if role == CACHE_SCALE else name.removesuffix(suffix)), role
    return name, WEIGHT


def _stored_bits(dtype: str, shape: tuple[int, ...], size: int) -> int:
    return _FLOAT_BYTES.get(dtype, 0) * 8 or max(1, size * 8 // max(1, math.prod(shape)))


def _bit_rules(config: dict[str, Any]) -> list[tuple[str, int]]:
    """(pattern of module names, bits) in the order in which they count, from a mobile checkpoint's config."""
    quantization = config.get("quantization_config")
    rules = quantization.get("module_quant_configs") if isinstance(quantization, dict) else None
    if not isinstance(rules, dict):
        return []
    found = []
    for pattern, rule in rules.items():
        bits = rule.get("num_bits") if isinstance(rule, dict) else None
        try:
            re.compile(pattern)
        except re.error:
            continue
        if bits in (2, 4, 8):
            found.append((pattern, bits))
    return found
