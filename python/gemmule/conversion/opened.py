"""The source of a conversion: its tensors, its config, and where it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..checkpoints.checkpoint import GenerationConfig
from ..checkpoints.shapes import LEFTOVERS, TextShape
from ..errors import UnsupportedError
from ..outputs.output import OutputFile
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

    @property
    def module(self) -> str:
        """The linear module or table whose weight it is."""
        return self.name.removesuffix(".weight")

    @property
    def is_cache_scale(self) -> bool:
        return self.name.endswith("_cache_scale")

    @property
    def is_projection(self) -> bool:
        """The one to the per-layer inputs, which no format quantizes."""
        return self.module == "per_layer_model_projection"

    def require_whole(self, parts: str, size: int, remedy: str) -> None:
        """Raises UnsupportedError where its rows do not divide into parts ("blocks", "groups") of `size` elements."""
        columns = self.shape[-1] if self.shape else 1
        if columns % size:
            raise UnsupportedError(
                f"{self.name}: rows of {columns} elements do not divide into {parts} of {size}",
                remedy=remedy,
                tensor=self.name,
                expected=f"a multiple of {size}",
                found=str(columns),
            )


@dataclass(frozen=True)
class Written:
    """What a target holds, the names of the source's tensors that it does not, and what people should know of it."""

    tensors: tuple[TensorReport, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Opened:
    """A checkpoint opened to be converted. allow_nonfinite: NaN and infinite weights become 0."""

    def __init__(self, path: Path, threads: int, *, allow_nonfinite: bool = False) -> None:
        self.path = path
        self.allow_nonfinite = allow_nonfinite
        self.core = _core.Source(str(path), threads)
        GenerationConfig.of(path, self.core.model)  # refuses what loading would, which is not to be written
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

    @cached_property
    def kept(self) -> list[SourceTensor]:
        """The tensors that targets have: all but scales of caches, and a head that is a copy of the embeddings."""
        return [tensor for tensor in self.tensors if tensor != self.copied_head and not tensor.is_cache_scale]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the others."""
        return tuple(tensor.name for tensor in self.tensors if tensor not in self.kept)

    @cached_property
    def prefix(self) -> str:
        """What names in a folder's files begin with, but for the head's."""
        if self.is_gguf:
            return "model."
        names = {name for name, *_ in _core.tensors(str(self.path))}
        return "model.language_model." if "model.language_model.norm.weight" in names else "model."

    def full_name(self, name: str) -> str:
        """Of a tensor or module, in a folder's files."""
        return name if name.startswith("lm_head") else self.prefix + name

    def is_unused(self, tensor: SourceTensor) -> bool:
        """Whether it belongs to a layer that reads another's keys and values instead."""
        return tensor.name.startswith("layers.") and self.shape.kind(tensor.module) == LEFTOVERS

    @property
    def unquantized_modules(self) -> list[str]:
        """Full names of those that a folder's config lists as float beside quantized ones."""
        return [self.full_name(tensor.module) for tensor in self.tensors if tensor.is_projection]

    def refuse_experts(self, tensor: SourceTensor, to: str) -> None:
        """Raises UnsupportedError for experts, and for what routes tokens to them."""
        if ".experts." in tensor.name or ".router." in tensor.name:
            raise UnsupportedError(
                f'{tensor.name}: experts are not written as "{to}"',
                remedy='Convert to "q4_0".',
                tensor=tensor.name,
                expected="a model without experts",
                found=f"{self.config.num_experts} experts",
            )

    @property
    def has_head(self) -> bool:
        """A head that is no copy of the embeddings."""
        return not self.config.tie_word_embeddings

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

    def encode(
        self, tensor: SourceTensor, name: str, encoding: str, grid: str, file: OutputFile, offset: int
    ) -> TensorReport:
        """Writes one tensor into a file under `name`. encoding, grid: as `Source.encode` has them."""
        counts = self.core.encode(tensor.number, encoding, grid, file.descriptor, offset, self.allow_nonfinite)
        blocks, size = BLOCKS[encoding]
        return self._report(tensor, name, encoding, tensor.elements // blocks * size, counts)

    def encode_codes(
        self,
        tensor: SourceTensor,
        name: str,
        encoding: str,
        rule: str,
        scale_type: str,
        scales: NDArray[np.float32],
        file: OutputFile,
        offset: int,
        size: int,
    ) -> TensorReport:
        """Writes one matrix's codes into a file under `name`, and its scales into `scales` (rows, groups).

        Args:
            encoding, rule, scale_type: as `Source.encode_codes` has them.
            size: bytes of codes and scales.
        """
        counts = self.core.encode_codes(
            tensor.number, encoding, rule, scale_type, scales, file.descriptor, offset, self.allow_nonfinite
        )
        return self._report(tensor, name, STORED[encoding], size, counts)

    def _report(
        self, tensor: SourceTensor, name: str, stored: str, size: int, counts: tuple[int, int, int, int, float, float]
    ) -> TensorReport:
        elements, on_grid, saturated, nonfinite, squares, error_squares = counts
        return TensorReport(
            name=name,
            kind=self.shape.kind(tensor.module),
            source=STORED.get(tensor.encoding, tensor.encoding),
            stored=stored,
            parameters=elements,
            bytes=size,
            relative_error=math.sqrt(error_squares / squares) if squares else 0.0,
            on_grid=on_grid / elements,
            saturated=saturated / elements,
            nonfinite=nonfinite,
        )


# Encoding -> elements and bytes of a block.
BLOCKS = {"f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q4_0": (32, 18), "q6_k": (256, 210)}

# Encodings whose scales lie in a tensor of their own, as reports name them.
STORED = {"c2": "2-bit", "c4": "4-bit", "c8": "8-bit", "u8": "8-bit", "g4": "w4a16"}
