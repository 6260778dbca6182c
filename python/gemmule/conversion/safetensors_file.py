"""safetensors files, in one or in shards: where every tensor lies in files that are to be written.

Source: huggingface/safetensors, README; names of shards and their index as transformers has them.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Element types with their bytes, in the format's order: tensors of wide elements come first, so that all are aligned.
_BYTES = {"I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I8": 1, "U8": 1}
_ORDER = {dtype: place for place, dtype in enumerate(_BYTES)}

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class StTensor:
    """A tensor to be written. dtype: "F32", "F16", "BF16", "I8", "U8", "I32" or "I64"; shape: outermost first."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _BYTES[self.dtype]


@dataclass(frozen=True)
class StLayout:
    """A file to be written.

    Attributes:
        file: its name.
        header: what comes before the tensors' bytes.
        offsets: of each tensor by name, bytes from the file's start.
        size: of the file, bytes.
    """

    file: str
    header: bytes
    offsets: Mapping[str, int]
    size: int


def lay_out(tensors: Sequence[StTensor], shard_bytes: int) -> list[StLayout]:
    """Where the tensors lie: in model.safetensors, or in shards that are filled in the order given.

    Args:
        shard_bytes: a shard takes no more tensors than this, unless a single one is larger.
    """
    shards: list[list[StTensor]] = [[]]
    room = shard_bytes
    for tensor in tensors:
        if tensor.bytes > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(tensor)
        room -= tensor.bytes
    if len(shards) == 1:
        return [_lay_out_one("model.safetensors", shards[0])]
    count = len(shards)
    return [_lay_out_one(f"model-{i + 1:05d}-of-{count:05d}.safetensors", shard) for i, shard in enumerate(shards)]


def index_of(layouts: Sequence[StLayout], tensors: Sequence[StTensor]) -> bytes | None:
    """What INDEX says of shards; None for a single file, which has no index."""
    if len(layouts) == 1:
        return None
    files = {name: layout.file for layout in layouts for name in layout.offsets}
    index = {"metadata": {"total_size": sum(tensor.bytes for tensor in tensors)}, "weight_map": files}
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


def _lay_out_one(file: str, tensors: Sequence[StTensor]) -> StLayout:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    ends: dict[str, tuple[int, int]] = {}
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (_ORDER[tensor.dtype], tensor.name)):
        begin, end = end, end + tensor.bytes
        ends[tensor.name] = (begin, end)
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (begin, end)}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # the tensors' bytes begin at a multiple of 8
    header = struct.pack("<Q", len(text)) + text
    return StLayout(file, header, {name: len(header) + begin for name, (begin, _) in ends.items()}, len(header) + end)
