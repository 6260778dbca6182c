"""Checkpoints written as GGUF files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from ..outputs.output import new_file
from ..progress import Progress
from .gguf_file import GgufTensor, lay_out, read_metadata, size_label
from .gguf_metadata import metadata_of_folder, metadata_of_gguf, rope_divisors
from .opened import BLOCKS, Opened, SourceTensor, Written
from .report import TensorReport

_FLOATS = ("f32", "f16", "bf16")
_TABLES = ("embed_tokens.weight", "embed_tokens_per_layer.weight")
# What llama-quantize leaves as it is.
_ROUTER = ".router.proj.weight"
_DIVISORS = "rope_freqs.weight"
_FEW = 0.01  # of the blocks: what comes back by chance, zeros above all


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
    source: Opened, place: Path, to: str, *, grid: str, pure: bool, embeddings: str, force: bool, progress: bool
) -> Written:
    """Writes a file; arguments as `convert` has them.

    Raises:
        UnsupportedError: rows do not divide into blocks.
    """
    planned = [_Planned(tensor, _encoding(tensor, to, pure, embeddings)) for tensor in source.kept]
    for each in planned:
        each.source.require_whole("blocks", BLOCKS[each.encoding][0], 'Convert to "bf16".')
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
    reports = []
    with (
        new_file(place, layout.size, sources=source.files, force=force) as file,
        Progress(sum(4 * each.source.elements for each in planned), "B", wanted=progress) as bar,
    ):
        file.write(layout.header)
        file.write(struct.pack(f"<{len(divisors)}f", *divisors), layout.offsets[_DIVISORS])
        for each in planned:
            name = each.target.name
            reports.append(source.encode(each.source, name, each.encoding, grid, file, layout.offsets[name]))
            bar.advance(4 * each.source.elements, name)
    return Written(tuple(reports), source.left_out, _notes(reports, grid))


def _notes(reports: Sequence[TensorReport], grid: str) -> tuple[str, ...]:
    blocks = [report for report in reports if report.stored == "q4_0" and report.source in _FLOATS]
    recovered = sum(report.on_grid * report.parameters for report in blocks)
    if grid == "llama" or not blocks or recovered > _FEW * sum(report.parameters for report in blocks):
        return ()
    return ('the weights lie on no Q4_0 grid; of weights trained for llama.cpp\'s rule, grid="llama" may keep more',)


def _encoding(tensor: SourceTensor, to: str, pure: bool, embeddings: str) -> str:
    if len(tensor.shape) < 2 or tensor.name.endswith(_ROUTER):
        return "f32"
    if tensor.is_projection and to not in _FLOATS:
        return tensor.encoding if tensor.encoding in _FLOATS and not pure else "f32"
    if tensor.name in _TABLES and to == "q4_0" and not pure and embeddings == "q6_k":
        # llama.cpp stores what does not divide into blocks of 256 as Q8_0.
        return "q6_k" if tensor.shape[-1] % BLOCKS["q6_k"][0] == 0 else "q8_0"
    return to
