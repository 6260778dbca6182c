"""The tensors of a Hugging Face folder, seen from config.json and the safetensors headers."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import _core, paths
from ..errors import FormatError
from . import checkpoint
from .shapes import TextShape, bare_name
from .tensors import (
    CACHE_SCALE,
    FLOAT_BYTES,
    INPUT_SCALE,
    OUTPUT_SCALE,
    WEIGHT,
    WEIGHT_SCALE,
    Tensor,
    Tensors,
    stored_bits,
)

_SUFFIXES = {
    ".weight": WEIGHT,
    ".embedding_quantized": WEIGHT,
    ".weight_packed": WEIGHT,
    ".weight_scale": WEIGHT_SCALE,
    ".embedding_scale": WEIGHT_SCALE,
    ".weight_zero_point": WEIGHT_SCALE,
    ".weight_shape": WEIGHT_SCALE,
    ".input_activation_scale": INPUT_SCALE,
    ".input_scale": INPUT_SCALE,
    ".output_activation_scale": OUTPUT_SCALE,
    ".output_scale": OUTPUT_SCALE,
    ".k_cache_scale": CACHE_SCALE,
    ".v_cache_scale": CACHE_SCALE,
}

# A rule of a config is somebody else's regular expression, and some of those take forever. Those that configs have
# are names, numbers and one choice: a search for such a one goes over a name once from each place of it.
_RULE = re.compile(r"\^?(?:[\w/-]|\\\.|\.|\\d\+(?=\\\.|\$|\Z)|\\d(?!\+)|\[[\w-]+\]|[(|)])*\$?")
_LONGEST_RULE, _MOST_RULES, _LONGEST_NAME = 1000, 100, 256

# Measured: docs/decisions/0013-hub.md.
_TOKENIZER_FACTOR = 1.5  # bytes of memory that a byte of tokenizer.json becomes, the parser's peak included


class FolderTensors(Tensors):
    """Of a folder with config.json and safetensors files."""

    def __init__(self, folder: Path) -> None:
        file = checkpoint.require_file(folder / "config.json")
        config = checkpoint.read_json(file)
        self.path = self.root = folder
        self.model_type = str(config.get("model_type", ""))
        self.shape = _read_shape(file, config)
        self._rules = _bit_rules(config)

    @cached_property
    def all(self) -> list[Tensor]:
        matrices = self.shape.matrices()
        return [self._tensor(matrices, *listed) for listed in _core.tensors(str(self.path))]

    @property
    def files(self) -> list[Path]:
        return sorted({tensor.file for tensor in self.all})

    @property
    def most_bytes(self) -> int:
        return weight_bytes(self.path)

    @property
    def tokenizer_bytes(self) -> int:
        file = self.path / "tokenizer.json"
        return int(_TOKENIZER_FACTOR * file.stat().st_size) if paths.is_file(file) else 0

    def _tensor(
        self,
        matrices: dict[str, tuple[int, int]],
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        offset: int,
        size: int,
        file: str,
    ) -> Tensor:
        module, role = _module(name)
        matrix = matrices.get(bare_name(module)) if role == WEIGHT else None
        bits = stored_bits(dtype, shape, size)
        if role == WEIGHT and dtype not in FLOAT_BYTES and dtype != "I8":
            bits = self._packed_bits(module, dtype, shape, size, matrix or (0, 0)) or bits
        elements = math.prod(matrix) if matrix and dtype == "I32" else size * 8 // bits
        kind = self.shape.kind(module)
        return Tensor(name, dtype, shape, offset, size, Path(file), module, role, kind, bits, elements)

    def _packed_bits(
        self, module: str, dtype: str, shape: tuple[int, ...], size: int, matrix: tuple[int, int]
    ) -> int | None:
        """Bits of a weight's code. How many are packed into a byte or a word follows from the matrix's shape."""
        rows, columns = matrix
        if dtype == "I32" and len(shape) == 2:  # a row ends with its last word
            return next((bits for bits in (2, 4, 8) if (columns * bits + 31) // 32 == shape[1]), None)
        if rows * columns and size * 8 % (rows * columns) == 0:
            return size * 8 // (rows * columns)
        if len(module) > _LONGEST_NAME:
            return None
        return next((bits for rule, bits in self._rules if re.search(rule, module)), None)


def weight_bytes(folder: Path) -> int:
    """Of all safetensors files. Links that lead nowhere count nothing: the engine refuses those that it needs."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with suppress(OSError):
            total += file.stat().st_size
    return total


def _read_shape(file: Path, config: dict[str, Any]) -> TextShape:
    """What config.json asks for. Raises FormatError where it is no text model's."""
    try:
        return TextShape.read(config)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        _core.check_checkpoint(str(file.parent))  # which key it is, and where, is what loading says
        raise FormatError(
            f"{file}: not the config of a Gemma 4 text model: {error!r}",
            remedy="Download the file again.",
            file=str(file),
            expected="the config of a Gemma 4 text model",
            found=repr(error),
        ) from None


def _module(name: str) -> tuple[str, str]:
    for suffix, role in _SUFFIXES.items():
        if name.endswith(suffix):
            return (name if role == CACHE_SCALE else name.removesuffix(suffix)), role
    return name, WEIGHT


def _bit_rules(config: dict[str, Any]) -> list[tuple[str, int]]:
    """(pattern of module names, bits) in the order in which they count, from a mobile checkpoint's config."""
    quantization = config.get("quantization_config")
    rules = quantization.get("module_quant_configs") if isinstance(quantization, dict) else None
    if not isinstance(rules, dict):
        return []
    found = []
    for pattern, rule in rules.items():
        bits = rule.get("num_bits") if isinstance(rule, dict) else None
        if len(pattern) > _LONGEST_RULE or pattern.count("(") > 1 or not _RULE.fullmatch(pattern):
            continue
        try:
            re.compile(pattern)
        except re.error:
            continue
        if bits in (2, 4, 8):
            found.append((pattern, bits))
    return found[:_MOST_RULES]
