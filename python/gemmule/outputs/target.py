"""What may be written where: nothing that people would miss is replaced."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from .. import arguments, paths
from ..checkpoints.checkpoint import TEXT_FILES
from ..errors import ArgumentError, MissingFileError

# Files of a folder that converting writes.
_OURS = re.compile(
    "|".join(re.escape(name) for name in TEXT_FILES)
    + r"|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
)


def resolve(target: str | os.PathLike[str]) -> Path:
    """The absolute path that `target` means; of a link, what it leads to.

    Raises ArgumentError for something that is no path, MissingFileError where the folder that it lies in is not there,
    ResourceError where the system does not tell.
    """
    named = arguments.path("the target", target)
    try:
        place = Path(os.path.realpath(named))  # of links in a circle it gives one
    except FileNotFoundError:
        remedy = "Go to one that is there, or write the target as a whole path."
        raise MissingFileError("the working folder is no longer there", remedy=remedy, file=str(named)) from None
    if not place.name:
        raise arguments.refused("the target", target, "a path that ends in a name")
    if not (paths.exists(place.parent) and place.parent.is_dir()):
        raise MissingFileError(
            f"{place.parent}: no such folder",
            remedy=f'Make it first: mkdir -p "{place.parent}"',
            file=str(place.parent),
        )
    return place


def check_target(place: Path, *, is_folder: bool, sources: Iterable[Path], force: bool) -> None:
    """Refuses to write what people would miss. What exists is replaced only with `force`, and then only if it is a
    file, an empty folder, or a folder that holds config.json and nothing but files that converting writes.

    Args:
        place: what `resolve` returned.
        is_folder: a folder is to be written, not a file.
        sources: files and folders that are read. None of them may be the target, hold it, or lie in it.

    Raises ArgumentError; ResourceError where the system does not tell what is there.
    """
    for source in sources:
        _check_apart(place, source)
    if not paths.exists(place):
        return
    if not force:
        raise ArgumentError(
            f"{place} exists", remedy="Choose another name, or replace it with force=True (--force).", file=str(place)
        )
    if is_folder:
        _check_replaced_folder(place)
    elif not place.is_file():
        raise _not_replaced(place, "a file", "a folder" if place.is_dir() else "a device")


def _check_apart(place: Path, source: Path) -> None:
    origin = source.resolve()
    # Files of a folder may be links to elsewhere, as in the hub's cache, or in a circle, at which realpath stops.
    names = paths.names_in(origin) if origin.is_dir() else []
    read = [origin, *(Path(os.path.realpath(origin / name)) for name in names)]
    if origin in place.parents or any(place == each or place in each.parents for each in read):
        raise ArgumentError(
            f"{place}: the output would stand in the place of its source, {source}, or inside it",
            remedy="Choose a path apart from the source.",
            file=str(place),
        )


def _check_replaced_folder(place: Path) -> None:
    if not place.is_dir():
        raise _not_replaced(place, "a folder", "a file")
    names = paths.names_in(place)
    others = [name for name in names if not (_OURS.fullmatch(name) and paths.is_file(place / name))]
    if others:
        raise _not_replaced(place, "a checkpoint that gemmule wrote", "a folder with " + ", ".join(others[:3]))
    if names and "config.json" not in names:
        raise _not_replaced(place, "a checkpoint that gemmule wrote", "a folder without config.json")


def _not_replaced(place: Path, expected: str, found: str) -> ArgumentError:
    return ArgumentError(
        f"{place} is not replaced: it is {found}; expected {expected}",
        remedy="Choose another name, or remove it yourself.",
        file=str(place),
        expected=expected,
        found=found,
    )
