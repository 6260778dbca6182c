"""Reads safetensors files: an 8-byte little-endian length, a JSON header of that length, then the tensors' bytes."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,  # numpy has no bfloat16: the bits, widened by `read_file`
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
}


def bf16_to_f32(bits: Array) -> Array:
    """bits (...) uint16 -> (...) float32, exactly: bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def f32_to_bf16(x: Array) -> Array:
    """x (...) float32, finite -> (...) uint16, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read_file(path: Path) -> Tensors:
    """All tensors of one file; BF16 becomes float32."""
    data = Path(path).read_bytes()
    (header_length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = bf16_to_f32(values) if entry["dtype"] == "BF16" else values
    return tensors


def read_folder(folder: Path) -> Tensors:
    """All tensors of a checkpoint: `model.safetensors`, or the files that the index names."""
    index = Path(folder, "model.safetensors.index.json")
    if not index.exists():
        return read_file(Path(folder, "model.safetensors"))
    tensors: Tensors = {}
    for name in sorted(set(json.loads(index.read_text())["weight_map"].values())):
        tensors |= read_file(Path(folder, name))
    return tensors
