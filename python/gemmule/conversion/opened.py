"""The source of a conversion: its tensors, its config, and where it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .. import _core
from ..progress import Progress
from ..shapes import TextShape
from .output import OutputFile
from .report import TensorReport
from .text_config import LayerConfig, RopeParameters, TextConfig


@dataclass(frozen=True)
class SourceTensor:
    """number: in the engine's list; name: in the Hugging Face format, without the prefix of its files."""

    number: int
    name: str
    shape: tuple[int, ...]
    encoding: str
    input_scale: float
    output_scale: float

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Written:
    """What a target holds, and the names of the source's tensors that it does not."""

    tensors: tuple[TensorReport, ...]
    left_out: tuple[str, ...]


class Opened:
    """A checkpoint opened to be converted."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self.core = _core.Source(str(path), threads)
        self.info = self.core.model.info
        self.shape = TextShape.of_engine(self.info["config"])
        self.tensors = [SourceTensor(number, *said) for number, said in enumerate(self.core.tensors())]

    @property
    def is_gguf(self) -> bool:
        return not self.path.is_dir()

    @property
    def files(self) -> list[Path]:
        """What is read, and must not be written over."""
        return [Path(file) for file in _core.GgufHeaders(str(self.path)).files] if self.is_gguf else [self.path]

    @property
    def bytes(self) -> int:
        """Of all tensors as float32: the measure of the work."""
        return sum(4 * tensor.elements for tensor in self.tensors)

    @cached_property
    def prefix(self) -> str:
        """What names in a folder's files begin with, but for the head's."""
        if self.is_gguf:
            return "model."
        names = {name for name, *_ in _core.tensors(str(self.path))}
        return "model.language_model." if "model.language_model.norm.weight" in names else "model."

    @cached_property
    def copied_head(self) -> SourceTensor | None:
        """A head that is a copy of the embeddings, as mobile checkpoints have it."""
        named = {tensor.name: tensor for tensor in self.tensors}
        head = named.get("lm_head.weight")
        return head if head and self.core.equal(head.number, named["embed_tokens.weight"].number) else None

    @cached_property
    def config(self) -> TextConfig:
        """Of the text model; with a head that is a copy of the embeddings, those are tied."""
        said = self.info["config"]
        layers = tuple(
            LayerConfig(
                type=kind,
                head_dim=layer["head_dim"],
                num_key_value_heads=layer["num_key_value_heads"],
                intermediate_size=layer["intermediate_size"],
                has_v_proj=layer["has_v_proj"],
            )
            for kind, layer in zip(said["layer_types"], said["layers"], strict=True)
        )
        plain = {
            name: said[name]
            for name in TextConfig.__dataclass_fields__
            if name not in ("layers", "rope_sliding", "rope_full", "tie_word_embeddings")
        }
        return TextConfig(
            **plain,
            tie_word_embeddings=said["tie_word_embeddings"] or self.copied_head is not None,
            rope_sliding=RopeParameters(**said["rope_sliding"]),
            rope_full=RopeParameters(**said["rope_full"]),
            layers=layers,
        )

    def write(
        self, tensor: SourceTensor, name: str, encoding: str, grid: str, file: OutputFile, offset: int, bar: Progress
    ) -> TensorReport:
        """Writes one tensor into a file under `name`. encoding, grid: as `Source.encode` has them."""
        counts = self.core.encode(tensor.number, encoding, grid, file.descriptor, offset)
        elements, on_grid, saturated, squares, error_squares = counts
        bar.advance(4 * elements, name)
        blocks, size = BLOCKS[encoding]
        return TensorReport(
            name=name,
            kind=self.shape.kind(tensor.name.removesuffix(".weight")),
            source=tensor.encoding,
            stored=encoding,
            parameters=elements,
            bytes=elements // blocks * size,
            relative_error=math.sqrt(error_squares / squares) if squares else 0.0,
            on_grid=on_grid / elements,
            saturated=saturated / elements,
        )


# Encoding -> elements and bytes of a block.
BLOCKS = {"f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q4_0": (32, 18), "q6_k": (256, 210)}
