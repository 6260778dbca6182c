"""A large file that is written once and kept, with a note beside it that says what is in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def find_or_write(
    file: Path, note_file: Path, parameters: dict[str, Any], size: int, write: Callable[[], str]
) -> dict[str, Any]:
    """The file's note: parameters, sha256, file_bytes. It is written unless it is there, made of the same.

    Args:
        parameters: what the file is made from; equal parameters give equal bytes.
        size: bytes that it needs, about.
        write: makes the file and returns its SHA-256.
    """
    note = _read(note_file, file)
    if note is not None and note["parameters"] == parameters:
        return note
    note_file.unlink(missing_ok=True)
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(file.parent).free
    if free < size:
        raise OSError(f"{file}: {size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; choose another --folder")
    note = {"parameters": parameters, "sha256": write(), "file_bytes": file.stat().st_size}
    note_file.write_text(json.dumps(note, indent=1))  # last: an interrupted run leaves no file that looks finished
    return note


def _read(note_file: Path, file: Path) -> dict[str, Any] | None:
    """What an earlier run wrote about its file; None if that is not there, or not whole."""
    try:
        note: dict[str, Any] = json.loads(note_file.read_text())
        whole = file.stat().st_size == note["file_bytes"]
    except (FileNotFoundError, KeyError, ValueError):
        return None
    return note if whole else None
