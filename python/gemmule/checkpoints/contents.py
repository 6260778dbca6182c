"""The tensors of whatever checkpoint a path means, for those who look at it without running it."""

from __future__ import annotations

import os
from pathlib import Path

from . import hub
from .checkpoint import find
from .folder_tensors import FolderTensors
from .gguf_tensors import GgufTensors
from .tensors import Tensors


def contents(path: str | os.PathLike[str]) -> Tensors:
    """Of a folder, a GGUF file, "fairy", or the name of a repository that was pulled before.

    Raises:
        FormatError: a file is broken.
        MissingFileError: no such folder or file.
        UnsupportedError: a GGUF file that gemmule does not run.
    """
    return contents_at(find(hub.pulled(path)))


def contents_at(place: Path) -> Tensors:
    """Of the folder or file that `find` found."""
    return FolderTensors(place) if place.is_dir() else GgufTensors(place)
