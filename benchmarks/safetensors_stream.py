"""Writes a safetensors file tensor by tensor, so that files larger than the memory can be written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ITEM_BYTES = {"F32": 4, "BF16": 2, "I8": 1, "U8": 1}


@dataclass(frozen=True)
class Entry:
    """One tensor of the file's header."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]


def in_file_order(entries: Iterable[Entry]) -> list[Entry]:
    """Wide elements first, then by name: every tensor is aligned without gaps. Published files have this order too."""
    return sorted(entries, key=lambda entry: (-ITEM_BYTES[entry.dtype], entry.name))


def header(entries: list[Entry]) -> bytes:
    """What stands before the data of `entries`: the length (8 bytes, little endian), then JSON padded to 8 bytes."""
    fields = {}
    begin = 0
    for entry in entries:
        end = begin + entry.bytes
        fields[entry.name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write(path: Path, entries: list[Entry], chunks: Iterator[NDArray[Any]]) -> str:
    """Writes the header and then all `chunks`, the data of all entries in their order. Returns the file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        first = header(entries)
        digest.update(first)
        file.write(first)
        for chunk in chunks:
            digest.update(chunk.data)
            file.write(chunk.data)
        found, expected = file.tell(), len(first) + sum(entry.bytes for entry in entries)
    if found != expected:
        raise ValueError(f"{path}: the chunks make {found} bytes; the header says {expected}")
    return digest.hexdigest()
