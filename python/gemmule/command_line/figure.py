"""Where `--plot` draws to: looked at before the work, whose figure it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..arguments import path
from ..errors import ArgumentError, ResourceError
from ..outputs.target import resolve
from ..plotting import new_figure


def figure_file(name: str | None) -> Path | None:
    """The file that `--plot` names, if it is given.

    Raises:
        ArgumentError, MissingFileError: no figure can be written there.
        UnsupportedError: matplotlib is not installed.
    """
    if name is None:
        return None
    kinds = new_figure(1, 1).canvas.get_supported_filetypes()
    place = path("--plot", name)
    resolve(place)
    if place.suffix.removeprefix(".").lower() not in kinds or place.is_dir():
        wanted = "a file whose name ends in .png, .svg or .pdf"
        raise ArgumentError(f"--plot is {name!r}; expected {wanted}", expected=wanted, found=name)
    return place


def draw(found: Any, place: Path | None) -> None:
    """Writes the figure of a result, if there is a file for it. Raises ResourceError."""
    if place is None:
        return
    try:
        found.plot().savefig(place)
    except OSError as error:
        raise ResourceError(f"{place}: {error.strerror}", remedy="Draw to another place.", file=str(place)) from None
