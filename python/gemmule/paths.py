"""What lies at a path. Where the system does not tell, as inside of a folder that may not be searched, the error names
the path."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import GemmuleError, MissingFileError, ResourceError

_NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # of a link too: one that leads nowhere, or in a circle


def exists(path: Path) -> bool:
    """Whether there is anything. Raises ResourceError."""
    return _mode(path) != 0


def is_file(path: Path) -> bool:
    """Whether there is a file. Raises ResourceError."""
    return stat.S_ISREG(_mode(path))


def names_in(folder: Path) -> list[str]:
    """Names of all that lies in a folder, sorted. Raises ResourceError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError as error:
        raise _refused(folder, error) from None


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Has MissingFileError and ResourceError name `file` where it is not there, or the system or its disk fails."""
    try:
        yield
    except GemmuleError:
        raise
    except FileNotFoundError:
        raise MissingFileError(f"{file}: no such file", remedy="Check the path.", file=str(file)) from None
    except OSError as error:
        raise _refused(file, error) from None


def _mode(path: Path) -> int:
    """Kind and permissions, links followed; 0 where there is nothing."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in _NOTHING:
            return 0
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> ResourceError:
    remedy = "Check the path, and that you may read what lies there."
    if error.errno == errno.EIO:
        remedy = "The disk or the network behind the path fails: copy the file to another."
    return ResourceError(f"{path}: {error.strerror}", remedy=remedy, file=str(path))
