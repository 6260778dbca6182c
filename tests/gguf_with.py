"""A fixture's GGUF file with other metadata."""

from pathlib import Path

import hostile_gguf
from gemmule.conversion.gguf_file import TYPES, GgufLayout, GgufTensor, Metadata, lay_out

NAMES = {number: name for name, number in TYPES.items()}


def tensors_of(path: Path) -> list[GgufTensor]:
    return [
        GgufTensor(each.name, NAMES[each.type], tuple(each.dims[::-1]), len(each.data))
        for each in hostile_gguf.read(path).tensors
    ]


def write(path: Path, layout: GgufLayout, data: dict[str, bytes]) -> Path:
    """Writes the whole file. data: tensors' bytes by name."""
    content = bytearray(layout.size)
    content[: len(layout.header)] = layout.header
    for name, values in data.items():
        content[layout.offsets[name] : layout.offsets[name] + len(values)] = values
    path.write_bytes(content)
    return path


def with_metadata(path: Path, source: Path, metadata: Metadata) -> Path:
    """Writes `source` with these keys; returns `path`."""
    data = {each.name: each.data for each in hostile_gguf.read(source).tensors}
    return write(path, lay_out(metadata, tensors_of(source)), data)
