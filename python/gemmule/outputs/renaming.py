"""Renaming as Linux can do it beyond os.rename: two names change places, and what exists is not replaced.

Source: renameat2(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100  # paths are relative to the working folder
_NOREPLACE, _EXCHANGE = 1, 2
# What kernels and file systems without a flag answer.
_UNKNOWN = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


def exchange(first: Path, second: Path) -> bool:
    """Each of two paths becomes the other's in one step. False, and nothing is done, where the system cannot."""
    return _renameat2(first, second, _EXCHANGE)


def rename_to_new(source: Path, target: Path) -> None:
    """Renames where there is no `target` yet. Raises FileExistsError where there is."""
    if _renameat2(source, target, _NOREPLACE):
        return
    if os.path.lexists(target):  # between here and the next line another program may make one
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # glibc 2.28, musl 1.2.6
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))
