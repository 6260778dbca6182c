"""Hugging Face folders as they are written: parts of a checkpoint that are made one after another, each some tensors of
the safetensors files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..outputs.output import OutputFile, new_folder
from ..progress import Progress
from .hf_files import Files, files_of_folder, files_of_gguf
from .opened import Opened, SourceTensor
from .report import TensorReport
from .safetensors_file import INDEX, StTensor, index_of, lay_out

SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Spot:
    """Where a tensor's bytes go."""

    file: OutputFile
    offset: int

    def write(self, data: bytes) -> None:
        self.file.write(data, self.offset)


class Part(Protocol):
    """Some tensors that are made together."""

    @property
    def targets(self) -> Sequence[StTensor]: ...
    @property
    def elements(self) -> int:
        """Weights that go through memory: the measure of its work."""
        ...

    def write(self, source: Opened, spots: Mapping[str, Spot]) -> Sequence[TensorReport]: ...


@dataclass(frozen=True)
class Floats:
    """A tensor as bfloat16."""

    tensor: SourceTensor
    name: str

    @property
    def targets(self) -> Sequence[StTensor]:
        return (StTensor(self.name, "BF16", self.tensor.shape),)

    @property
    def elements(self) -> int:
        return self.tensor.elements

    def write(self, source: Opened, spots: Mapping[str, Spot]) -> Sequence[TensorReport]:
        spot = spots[self.name]
        return (source.encode(self.tensor, self.name, "bf16", "recover", spot.file, spot.offset),)


@dataclass(frozen=True)
class Codes:
    """A matrix as codes, and its scales.

    Attributes:
        codes, scales: the two tensors.
        encoding: as `Source.encode_codes` has it.
        rule: how the scales are found: "search", "absmax" or "recover".
        given: (rows, groups) float32: the scales, where they are known.
    """

    tensor: SourceTensor
    codes: StTensor
    scales: StTensor
    encoding: str
    rule: str
    given: NDArray[np.float32] | None = None

    @property
    def targets(self) -> Sequence[StTensor]:
        return (self.codes, self.scales)

    @property
    def elements(self) -> int:
        return self.tensor.elements

    def write(self, source: Opened, spots: Mapping[str, Spot]) -> Sequence[TensorReport]:
        scales = np.zeros(self.scales.shape, np.float32) if self.given is None else self.given
        spot = spots[self.codes.name]
        report = source.encode_codes(
            self.tensor,
            self.codes.name,
            self.encoding,
            "given" if self.given is not None else self.rule,
            self.scales.dtype.lower(),
            scales,
            spot.file,
            spot.offset,
            self.codes.bytes + self.scales.bytes,
        )
        is_brain = self.scales.dtype == "BF16"  # the first half of a float32
        stored = (scales.view(np.uint32) >> 16).astype("<u2") if is_brain else scales.astype("<f4")
        spots[self.scales.name].write(stored.tobytes())
        return (report,)


@dataclass(frozen=True)
class Constant:
    """A tensor whose bytes are known."""

    target: StTensor
    data: bytes

    @property
    def targets(self) -> Sequence[StTensor]:
        return (self.target,)

    @property
    def elements(self) -> int:
        return 0

    def write(self, source: Opened, spots: Mapping[str, Spot]) -> Sequence[TensorReport]:
        spots[self.target.name].write(self.data)
        return ()


def text_files(source: Opened, *, tied: bool, quantization: Mapping[str, Any] | None) -> Files:
    """The folder's files beside the weights.

    Args:
        tied: the embeddings are the head's weights too.
        quantization: what config.json says under quantization_config.
    """

    def adjust(config: dict[str, Any]) -> dict[str, Any]:
        config = {key: value for key, value in config.items() if key != "quantization_config"}
        config["tie_word_embeddings"] = tied
        if "text_config" in config:
            config["text_config"] = config["text_config"] | {"tie_word_embeddings": tied}
        return config | ({"quantization_config": quantization} if quantization else {})

    if source.is_gguf:
        return files_of_gguf(source.path, source.core.model, source.config, "bfloat16", adjust)
    return files_of_folder(source.path, adjust)


def write_folder(
    source: Opened, place: Path, files: Files, parts: Sequence[Part], *, force: bool, progress: bool
) -> tuple[TensorReport, ...]:
    """Writes a folder: `files`, and the tensors of `parts` in as many safetensors files as they need."""
    targets = [target for part in parts for target in part.targets]
    layouts = lay_out(targets, SHARD_BYTES)
    index = index_of(layouts, targets)
    reports: list[TensorReport] = []
    work = sum(4 * part.elements for part in parts)
    with (
        new_folder(place, sources=source.files, force=force) as folder,
        Progress(work, "B", wanted=progress) as bar,
    ):
        for file_name, content in (files | ({INDEX: index} if index else {})).items():
            folder.write(file_name, content)
        spots: dict[str, Spot] = {}
        for layout in layouts:
            file = folder.create(layout.file, layout.size)
            file.write(layout.header)
            spots |= {name: Spot(file, offset) for name, offset in layout.offsets.items()}
        for part in parts:
            reports += part.write(source, spots)
            bar.advance(4 * part.elements, part.targets[0].name)
    return tuple(reports)
