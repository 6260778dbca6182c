"""Checkpoints written as GGUF files."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from ..errors import UnsupportedError
from ..progress import Progress
from .gguf_file import GgufTensor, lay_out, read_metadata, size_label
from .gguf_metadata import metadata_of_folder, metadata_of_gguf, rope_divisors
from .opened import BLOCKS, Opened, SourceTensor, Written
from .output import new_file

_FLOATS = ("f32", "f16", "bf16")
_TABLES = ("embed_tokens.weight", "embed_tokens_per_layer.weight")
# What llama-quantize leaves as it is.
_ROUTER = ".router.proj.weight"
_PROJECTION = "per_layer_model_projection.weight"
_DIVISORS = "rope_freqs.weight"


@dataclass(frozen=True)
class _Planned:
    """A tensor to be written, and how."""

    source: SourceTensor
    encoding: str

    @property
    def target(self) -> GgufTensor:
        elements, size = BLOCKS[self.encoding]
        shape = self.source.shape or (1,)
        return GgufTensor(
            _core.gguf_name(self.source.name), self.encoding.upper(), shape, self.source.elements // elements * size
        )


def write_gguf(
    source: Opened, place: Path, to: str, *, grid: str, pure: bool, embeddings: str, force: bool, bar: Progress
) -> Written:
    """Writes a file; arguments as `convert` has them.

    Raises:
        UnsupportedError: rows do not divide into blocks.
    """
    kept = [t for t in source.tensors if t != source.copied_head and not t.name.endswith("_cache_scale")]
    left_out = tuple(tensor.name for tensor in source.tensors if tensor not in kept)
    planned = [_Planned(tensor, _encoding(tensor, to, pure, embeddings)) for tensor in kept]
    for each in planned:
        _check_rows(each)
    divisors = rope_divisors(source.config)
    extra = GgufTensor(_DIVISORS, "F32", (len(divisors),), 4 * len(divisors))
    targets = [extra, *(each.target for each in planned)]
    file_type = to.upper()
    if source.is_gguf:
        metadata = metadata_of_gguf(read_metadata(source.path), file_type=file_type)
    else:
        name = source.path.name
        metadata = metadata_of_folder(
            source.path, source.config, file_type=file_type, name=name, size_label=size_label(targets)
        )
    layout = lay_out(metadata, targets)
    with new_file(place, layout.size, sources=source.files, force=force) as file:
        file.write(layout.header)
        file.write(struct.pack(f"<{len(divisors)}f", *divisors), layout.offsets[_DIVISORS])
        reports = [
            source.write(
                each.source, each.target.name, each.encoding, grid, file, layout.offsets[each.target.name], bar
            )
            for each in planned
        ]
    return Written(tuple(reports), left_out)


def _encoding(tensor: SourceTensor, to: str, pure: bool, embeddings: str) -> str:
    if len(tensor.shape) < 2 or tensor.name.endswith(_ROUTER):
        return "f32"
    if tensor.name == _PROJECTION and to not in _FLOATS:
        return tensor.encoding if tensor.encoding in _FLOATS and not pure else "f32"
    if tensor.name in _TABLES and to == "q4_0" and not pure and embeddings == "q6_k":
        # llama.cpp stores what does not divide into blocks of 256 as Q8_0.
        return "q6_k" if tensor.shape[-1] % BLOCKS["q6_k"][0] == 0 else "q8_0"
    return to


def _check_rows(planned: _Planned) -> None:
    elements, _ = BLOCKS[planned.encoding]
    columns = planned.source.shape[-1] if planned.source.shape else 1
    if columns % elements == 0:
        return
    raise UnsupportedError(
        f"{planned.source.name}: rows of {columns} elements do not divide into blocks of {elements}",
        remedy='Convert to "bf16".',
        tensor=planned.source.name,
        expected=f"a multiple of {elements}",
        found=str(columns),
    )
