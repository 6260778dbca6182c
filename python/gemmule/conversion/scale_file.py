"""Scales from a safetensors file that lies beside the weights."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments, paths
from ..checkpoints.shapes import bare_name
from ..checkpoints.tensors import values_of
from ..errors import FormatError, MissingFileError, ResourceError

Scales = Mapping[str, NDArray[np.float32]]
Shapes = Mapping[str, Collection[tuple[int, ...]]]  # name of a scale -> the shapes that it may have

_DTYPES = ("F32", "BF16", "F16")


def read_scales(path: str | os.PathLike[str], wanted: Shapes, others: Shapes) -> dict[str, NDArray[np.float32]]:
    """All tensors of a file, by their names without the checkpoint's prefix. Values are read once names, types and
    shapes of all are known to be right.

    Args:
        wanted: what must be there.
        others: what may be there.

    Raises:
        FormatError: the file is broken, lacks a scale or has one of another model, or holds something else than floats
            that are finite and not negative.
        MissingFileError, ResourceError: it is not there, or cannot be read.
    """
    file = arguments.path("the file of scales", path)
    if not paths.is_file(file):
        raise MissingFileError(f"{file}: no such file", remedy="Check the path.", file=str(file))
    found: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for name, dtype, shape, offset, _, _ in _core.file_tensors(str(file)):
        if dtype not in _DTYPES:
            raise refused(file, name, "F32, BF16 or F16", dtype)
        if bare_name(name) in found:
            raise refused(file, name, "each scale once", "it under two prefixes")
        found[bare_name(name)] = dtype, shape, offset
    for name in sorted(wanted.keys() - found.keys()):
        raise refused(file, name, "a scale", "none")
    allowed = {**others, **wanted}
    for name, (_, shape, _) in sorted(found.items()):
        if name not in allowed:
            raise refused(file, name, "names of this model's scales", name)
        if shape not in allowed[name]:
            raise refused(file, name, f"shape {' or '.join(map(str, allowed[name]))}", str(shape))
    return {name: _values(file, name, *said) for name, said in found.items()}


def _values(file: Path, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> NDArray[np.float32]:
    size = math.prod(shape) * (4 if dtype == "F32" else 2)
    try:
        data = np.fromfile(file, np.uint8, size, offset=offset)
    except OSError as error:
        raise ResourceError(
            f"{file}: {error.strerror}", remedy="Make the file readable.", file=str(file), tensor=name
        ) from None
    if data.size != size:
        raise FormatError(
            f"{file}: the file has become shorter", remedy="Use a whole file.", file=str(file), tensor=name
        )
    values = values_of(data, dtype).astype(np.float32).reshape(shape)
    wrong = values[~(np.isfinite(values) & (values >= 0))]
    if wrong.size:
        raise refused(file, name, "finite scales, none negative", str(wrong[0]))
    return values


def refused(file: str | os.PathLike[str], tensor: str, expected: str, found: str) -> FormatError:
    """The error of a scale that is not as expected."""
    return FormatError(
        f"{os.fspath(file)}: {tensor}: expected {expected}, found {found}",
        remedy="Take the file that belongs to this checkpoint.",
        file=os.fspath(file),
        tensor=tensor,
        expected=expected,
        found=found,
    )
