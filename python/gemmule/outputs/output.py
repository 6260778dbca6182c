"""Output that appears under its final name only when it is whole, whatever happens before.

It is written beside its target as `.NAME.HEX.part` (HEX: 8 digits), flushed to the disk, and renamed. A folder that is
replaced changes places with the new one in one step. Where the system cannot do that, the old one is first renamed to
`.NAME.gemmule-aside`; a kill before the new one is in place leaves it there, and the next run puts it back.

Who writes holds a lock (flock) on what is being written: the next run removes what a killed one left, and nothing that
another one is writing. On file systems without locks nothing is removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread

from ..errors import GemmuleError, ResourceError
from ..table import amount
from . import renaming
from .target import check_target, resolve

_PATIENCE_S = 0.02  # small files are closed by then


class OutputFile:
    """A file of a fixed size while it is written: zeros at first, all of its room taken on the disk.

    Attributes:
        path: where it lies until the output is whole.
        size: bytes.
        descriptor: of the open file.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.descriptor = -1

    def make(self) -> None:
        with _refusals(self.path, self.size):
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def take_room(self) -> None:
        """Raises ResourceError where the disk has too little."""
        if self.size:
            with _refusals(self.path, self.size):
                os.posix_fallocate(self.descriptor, 0, self.size)

    def write(self, data: bytes, offset: int = 0) -> None:
        """Writes all of `data` from byte `offset` on."""
        rest = memoryview(data)
        with _refusals(self.path, self.size):
            while rest:
                done = os.pwrite(self.descriptor, rest, offset)
                offset, rest = offset + done, rest[done:]

    def flush(self) -> None:
        with _refusals(self.path, self.size):
            os.fsync(self.descriptor)

    def publish(self, place: Path, force: bool) -> None:
        """Gives it its final name."""
        if force:
            self.path.replace(place)
        else:
            renaming.rename_to_new(self.path, place)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class OutputFolder:
    """A folder while it is written. Its files stay open until it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: list[OutputFile] = []
        self.descriptor = -1

    def make(self) -> None:
        with _refusals(self.path):
            self.path.mkdir()
            self.descriptor = _open_folder(self.path)

    def create(self, name: str, size: int) -> OutputFile:
        """A new file of `size` bytes. Raises ResourceError where the disk has too little room."""
        file = OutputFile(self.path / name, size)
        self.files.append(file)
        file.make()
        file.take_room()
        return file

    def write(self, name: str, data: bytes) -> None:
        """A new file that holds `data`."""
        self.create(name, len(data)).write(data)

    def flush(self) -> None:
        for file in self.files:
            file.flush()
        with _refusals(self.path):
            _flush_folder(self.descriptor)

    def publish(self, place: Path, force: bool) -> None:
        """Gives it its final name. What it replaces then lies at `path`."""
        if not (force and place.exists()):
            renaming.rename_to_new(self.path, place)
        elif not renaming.exchange(self.path, place):
            _exchange_in_steps(self.path, place)

    def close(self) -> None:
        for file in self.files:
            file.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@contextmanager
def new_file(
    target: str | os.PathLike[str], size: int, *, sources: Iterable[Path], force: bool = False
) -> Iterator[OutputFile]:
    """A file of `size` bytes to be written in the block; at the block's end it stands under the name `target`, whole.

    Whatever ends the block before, an interrupt too, nothing of it is left, and what was there is as it was.

    Args:
        sources, force: as `check_target` has them.

    Raises:
        ArgumentError, MissingFileError: see `check_target` and `resolve`.
        ResourceError: the disk has too little room, or the system refuses to write there.
    """
    place = resolve(target)
    file = OutputFile(_part_path(place), size)
    with _written(file, place, tuple(sources), force):
        file.take_room()
        yield file


@contextmanager
def new_folder(
    target: str | os.PathLike[str], *, sources: Iterable[Path], force: bool = False
) -> Iterator[OutputFolder]:
    """A folder to be filled in the block; at the block's end it stands under the name `target`, whole. Else as
    `new_file`."""
    place = resolve(target)
    folder = OutputFolder(_part_path(place))
    with _written(folder, place, tuple(sources), force):
        yield folder


@contextmanager
def _written(part: OutputFile | OutputFolder, place: Path, sources: tuple[Path, ...], force: bool) -> Iterator[None]:
    def check() -> None:
        check_target(place, is_folder=isinstance(part, OutputFolder), sources=sources, force=force)

    close = part.close
    try:
        with _alone_in(place.parent):
            _put_back(place)
            check()
            _remove_leftovers(place)
            part.make()
            with suppress(OSError):  # a file system without locks
                _lock(part.descriptor)
        yield
        part.flush()
        with _alone_in(place.parent) as descriptor:
            check()  # others may have written there since
            with _refusals(place):
                part.publish(place, force)
                _flush_folder(descriptor)
    except KeyboardInterrupt:
        close = partial(_close_beside, part)
        raise
    finally:
        _remove(part.path)  # what is not whole, or what was replaced
        close()


def _close_beside(part: OutputFile | OutputFolder) -> None:
    """Closes what has no name any more. The system then gives its room back, 40 ms a gigabyte, for which no Ctrl-C has
    to wait."""
    closing = Thread(target=part.close)
    try:
        closing.start()
    except RuntimeError:  # the system gives no thread
        part.close()
    else:
        closing.join(_PATIENCE_S)


def _part_path(place: Path) -> Path:
    return place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")


def _aside_path(place: Path) -> Path:
    return place.with_name(f".{place.name}.gemmule-aside")


def _remove_leftovers(place: Path) -> None:
    """Removes what killed runs were writing for the same target."""
    pattern = re.compile(re.escape(f".{place.name}.") + r"[0-9a-f]{8}\.part")
    for path in place.parent.iterdir():
        if pattern.fullmatch(path.name):
            with suppress(OSError):  # locked: another run is writing it
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    _lock(descriptor)
                    _remove(path)
                finally:
                    os.close(descriptor)


def _exchange_in_steps(new: Path, old: Path) -> None:
    """What `renaming.exchange` does in one step. Between its steps a kill leaves `old` at its path aside."""
    aside = _aside_path(old)
    try:
        old.rename(aside)
        new.rename(old)
    except BaseException:
        _put_back(old)
        raise
    aside.rename(new)


def _put_back(place: Path) -> None:
    """Ends what a kill inside of `_exchange_in_steps` left: the old folder comes back, unless the new one is there."""
    aside = _aside_path(place)
    if not aside.is_dir():
        return
    with _refusals(aside):
        aside.rename(_part_path(place) if place.exists() else place)


def _remove(path: Path) -> None:
    """Removes a file or folder that nobody needs, as far as the system lets it."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Other runs wait that begin or end their writing in `folder`. Not on file systems without locks.

    Gives the folder's descriptor.
    """
    with _refusals(folder):
        descriptor = _open_folder(folder)
        try:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Held until the file or folder is closed. Raises OSError where another run holds it, or there are no locks."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _flush_folder(descriptor: int) -> None:
    """Makes the names in a folder survive a power failure, where the file system can do that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


@contextmanager
def _refusals(path: Path, size: int = 0) -> Iterator[None]:
    """What the system refuses becomes a ResourceError. size: of the file that is written, bytes."""
    try:
        yield
    except GemmuleError:
        raise
    except OSError as error:
        code = error.errno
        if code in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"Make room for {amount(size)} on the disk of {path.parent}, or choose another folder."
        elif code == errno.EFBIG:
            remedy = (
                f"Allow files of {amount(size)} (ulimit -f), or choose a folder of a file system that can hold them."
            )
        elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = f"Make {path.parent} writable, or choose another folder."
        else:
            remedy = "Choose another path."
        raise ResourceError(f"{path}: {error.strerror}", remedy=remedy, file=str(path)) from None
