"""Scales from a safetensors file that lies beside the weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..checkpoints.shapes import bare_name
from ..checkpoints.tensors import values_of
from ..errors import FormatError, MissingFileError

Scales = Mapping[str, NDArray[np.float32]]

_DTYPES = ("F32", "BF16", "F16")


def read_scales(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float32]]:
    """All tensors of a file, by their names without the checkpoint's prefix.

    Raises:
        FormatError: the file is broken, or holds something else than floats that are finite and not negative.
        MissingFileError, ResourceError: it is not there, or cannot be read.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file", remedy="Check the path.", file=str(file))
    scales = {}
    for name, dtype, shape, offset, size, _ in _core.file_tensors(str(file)):
        if dtype not in _DTYPES:
            raise refused(file, name, "F32, BF16 or F16", dtype)
        data = np.fromfile(file, np.uint8, size, offset=offset)
        if data.size != size:
            raise FormatError(f"{file}: the file has become shorter", file=str(file), tensor=name)
        values = values_of(data, dtype).astype(np.float32)
        wrong = values[~(np.isfinite(values) & (values >= 0))]
        if wrong.size:
            raise refused(file, name, "finite scales, none negative", str(wrong[0]))
        if bare_name(name) in scales:
            raise refused(file, name, "each scale once", "it under two prefixes")
        scales[bare_name(name)] = values.reshape(shape)
    return scales


def check_names(path: str | os.PathLike[str], scales: Scales, wanted: set[str], allowed: set[str]) -> None:
    """Raises FormatError where a scale that is wanted is not there, or one is that is neither wanted nor allowed."""
    for name in sorted(wanted - set(scales)):
        raise refused(path, name, "a scale", "none")
    for name in sorted(set(scales) - wanted - allowed):
        raise refused(path, name, "names of this model's scales", name)


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
