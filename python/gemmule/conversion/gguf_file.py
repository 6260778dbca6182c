"""GGUF files: metadata read and written, and where every tensor lies in a file that is to be written.

Version 3, little-endian, arrays without arrays in them. Source: ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO

from .. import _core
from ..errors import FormatError

ALIGNMENT = 32  # bytes; the format's default, so no key says it


class Kind(IntEnum):
    """Types of values, by the format's own numbers."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


_CODES = {  # of the struct module
    Kind.U8: "B",
    Kind.I8: "b",
    Kind.U16: "H",
    Kind.I16: "h",
    Kind.U32: "I",
    Kind.I32: "i",
    Kind.F32: "f",
    Kind.BOOL: "?",
    Kind.U64: "Q",
    Kind.I64: "q",
    Kind.F64: "d",
}

# Tensor types, by the format's own numbers.
TYPES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 6,
    "Q5_1": 7,
    "Q8_0": 8,
    "Q4_K": 12,
    "Q5_K": 13,
    "Q6_K": 14,
    "BF16": 30,
}


@dataclass(frozen=True)
class Value:
    """One value of the metadata. kind: of the value, or of the elements where it is a list. Strings may hold any bytes:
    what is not UTF-8 is escaped as surrogates."""

    kind: Kind
    data: Any


Metadata = dict[str, Value]  # in the file's order


@dataclass(frozen=True)
class GgufTensor:
    """A tensor to be written. shape: outermost first; type: a name of TYPES."""

    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class GgufLayout:
    """A file to be written.

    Attributes:
        header: what comes before the tensors' bytes, padding included.
        offsets: of each tensor by name, bytes from the file's start. Between tensors lie zeros.
        size: of the file, bytes.
    """

    header: bytes
    offsets: Mapping[str, int]
    size: int


def lay_out(metadata: Mapping[str, Value], tensors: Sequence[GgufTensor]) -> GgufLayout:
    """Where the tensors lie, one after the other."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_pack_string(key), _pack(value)]
    places: dict[str, int] = {}  # from where tensors begin
    end = 0
    for tensor in tensors:
        places[tensor.name] = end
        dims = tensor.shape[::-1]  # the format lists the innermost first
        parts.append(_pack_string(tensor.name))
        parts.append(struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TYPES[tensor.type], end))
        end = _aligned(end + tensor.bytes)
    header = b"".join(parts)
    header = header.ljust(_aligned(len(header)), b"\0")
    return GgufLayout(header, {name: len(header) + place for name, place in places.items()}, len(header) + end)


def size_label(tensors: Iterable[GgufTensor]) -> str:
    """The number of parameters for people, as llama.cpp's converter writes it: "4.6B", "128x2.2B" with 128 experts of
    which one is counted."""
    total, experts = 0, 0
    for tensor in tensors:
        is_stack = "_exps." in tensor.name and len(tensor.shape) == 3
        experts = tensor.shape[0] if is_stack else experts
        total += math.prod(tensor.shape[1:] if is_stack else tensor.shape)
    scale, unit = next(
        ((scale, unit) for scale, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")) if total > scale), (1e3, "K")
    )
    amount = total / scale
    return (f"{experts}x" if experts else "") + (f"{amount:.0f}" if round(amount) >= 10 else f"{amount:.1f}") + unit


def read_metadata(file: Path) -> Metadata:
    """All keys and values of the model of which `file` is all, or any part. Errors are those of loading it."""
    first = _core.GgufHeaders(str(file)).files[0]  # everything in its headers has been checked
    with Path(first).open("rb") as stream:
        return _Reader(stream).metadata()


class _Reader:
    """Reads a file whose headers have been checked."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def metadata(self) -> Metadata:
        self._take(4)  # "GGUF"
        _, _, keys = self._numbers("IQQ")  # after version and number of tensors
        return {self._string(): self._value() for _ in range(keys)}

    def _value(self) -> Value:
        kind = Kind(self._number("I"))
        if kind == Kind.STRING:
            return Value(kind, self._string())
        if kind != Kind.ARRAY:
            return Value(kind, self._number(_CODES[kind]))
        kind, count = Kind(self._number("I")), self._number("Q")
        if kind == Kind.STRING:
            return Value(kind, [self._string() for _ in range(count)])
        return Value(kind, list(self._numbers(f"{count}{_CODES[kind]}")))

    def _string(self) -> str:
        return self._take(self._number("Q")).decode(errors="surrogateescape")

    def _number(self, code: str) -> Any:
        return self._numbers(code)[0]

    def _numbers(self, codes: str) -> tuple[Any, ...]:
        return struct.unpack("<" + codes, self._take(struct.calcsize("<" + codes)))

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            file = self._stream.name
            raise FormatError(f"{file}: the file has become shorter", remedy="Use a whole file.", file=file)
        return data


def _pack(value: Value) -> bytes:
    """A value with its type before it."""
    if not isinstance(value.data, list):
        return struct.pack("<I", value.kind) + _pack_elements(value.kind, [value.data])
    head = struct.pack("<IIQ", Kind.ARRAY, value.kind, len(value.data))
    return head + _pack_elements(value.kind, value.data)


def _pack_elements(kind: Kind, elements: list[Any]) -> bytes:
    if kind == Kind.STRING:
        return b"".join(map(_pack_string, elements))
    return struct.pack(f"<{len(elements)}{_CODES[kind]}", *elements)


def _pack_string(text: str) -> bytes:
    data = text.encode(errors="surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
