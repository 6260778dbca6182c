"""SHA-256 of downloaded files against what the hub says of them, remembered beside the cache.

`<cache>/models--ORG--NAME/gemmule/<commit>.json` holds, for each file that is stored with a hash, the hub's SHA-256 and
size, and size and time of change (mtime, nanoseconds) of the local file when its hash was last found right. While both
are as they were, the file is not hashed again. Who changes a file's bytes and puts its time back is not found out by
loading it; `gemmule verify` hashes always.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FormatError, GemmuleError
from ..paths import reading
from ..progress import Progress
from .checkpoint import read_json

_PIECE_BYTES = 4 << 20
_FORMAT = 1
_LONGEST_NAME = 255  # bytes


@dataclass(frozen=True)
class Known:
    """What the hub says of a file, and how the local file was when it was found to be so (None: not yet)."""

    sha256: str
    size: int
    checked_size: int | None = None
    checked_mtime_ns: int | None = None


def sha256_of(file: Path, progress: Progress | None = None) -> str:
    """The file's SHA-256, 64 hexadecimal digits; read in pieces."""
    digest = hashlib.sha256()
    with reading(file), file.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            digest.update(piece)
            if progress:
                progress.advance(len(piece), file.name)
    return digest.hexdigest()


def record_of(snapshot: Path) -> Path:
    """Where the record of a snapshot's folder (<cache>/models--ORG--NAME/snapshots/<commit>) stands."""
    return snapshot.parent.parent / "gemmule" / f"{snapshot.name}.json"


def read(snapshot: Path) -> dict[str, Known]:
    """The record of a snapshot by file name; {} where there is none, or one that `write` has not written so."""
    if snapshot.parent.name != "snapshots":
        return {}
    try:
        record = read_json(record_of(snapshot))
        if record["format"] != _FORMAT:
            return {}
        return {name: _known(fields) for name, fields in record["files"].items() if _is_inside(name)}
    except (GemmuleError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _known(fields: dict[str, Any]) -> Known:
    known = Known(**fields)
    is_said = isinstance(known.sha256, str) and isinstance(known.size, int)
    if not (is_said and isinstance(known.checked_size, int | None) and isinstance(known.checked_mtime_ns, int | None)):
        raise TypeError
    return known


def _is_inside(name: str) -> bool:
    """Whether the name leads nowhere but into the snapshot, and is one that the system takes."""
    is_short = name.isprintable() and len(name.encode()) <= _LONGEST_NAME
    return is_short and not {"", ".", ".."} & set(name.split("/"))


def write(snapshot: Path, files: dict[str, Known]) -> None:
    """Keeps the record. A cache that cannot be written to has none, and its files are hashed at every load."""
    target = record_of(snapshot)
    text = json.dumps({"format": _FORMAT, "files": {name: asdict(known) for name, known in files.items()}}, indent=1)
    with contextlib.suppress(OSError):
        target.parent.mkdir(exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(target)


def check(snapshot: Path, said: dict[str, Known], names: list[str], *, progress: bool = True) -> None:
    """Hashes those files of `names` that have a hash at the hub and changed since they were last hashed.

    Args:
        snapshot: the folder they lie in.
        said: what the hub says; where it says nothing, as without a network, the record counts.

    Raises:
        FormatError: a file is not what the hub says. It is removed from the cache, so that it is downloaded again.
    """
    before = read(snapshot)
    known = before | {name: fresh for name, fresh in said.items() if not _same(before.get(name), fresh)}
    due = [name for name in names if name in known and _changed(snapshot / name, known[name])]
    with Progress(sum(known[name].size for name in due), "B", wanted=progress) as bar:
        for name in due:
            known[name] = _checked(snapshot / name, known[name], bar)
    if known != before:
        write(snapshot, known)


def _same(before: Known | None, fresh: Known) -> bool:
    return before is not None and (before.sha256, before.size) == (fresh.sha256, fresh.size)


def _changed(file: Path, known: Known) -> bool:
    with contextlib.suppress(OSError):
        status = file.stat()
        return (status.st_size, status.st_mtime_ns) != (known.checked_size, known.checked_mtime_ns)
    return True


def _checked(file: Path, known: Known, bar: Progress) -> Known:
    status = file.stat()
    found = sha256_of(file, bar)
    if found == known.sha256:
        return Known(known.sha256, known.size, status.st_size, status.st_mtime_ns)
    with contextlib.suppress(OSError):
        file.resolve().unlink()  # the blob that the snapshot's link leads to
        file.unlink(missing_ok=True)
    raise FormatError(
        f"{file}: SHA-256 is {found} ({status.st_size} bytes); the hub says {known.sha256} ({known.size} bytes)",
        remedy="The damaged file was removed from the cache: run the same again to download it anew.",
        file=str(file),
        expected=known.sha256,
        found=found,
    )
