"""Where a model's drafter lies."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .. import arguments
from . import checkpoint, hub

AUTO = "auto"

# Names of Google's instruction-tuned models, whatever form of them: the drafter of a size serves all of its forms.
_PUBLISHED = re.compile(r"(?P<model>gemma-4-(?:E2B|E4B|12B|26B-A4B|31B)-it)(?:-.*)?", re.IGNORECASE)
_SUFFIX = "-assistant"
_DEMO_DRAFTER = f"{checkpoint.DEMO}-drafter"


def find(
    mtp: str | os.PathLike[str] | None,
    path: str | os.PathLike[str],
    *,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path | None:
    """The drafter's folder, downloaded if need be; None where there is none.

    Args:
        mtp: a folder or a hub name; "auto": what `published` says of `path`; None: no drafter.
        path: of the model.
        token, cache_dir, local_files_only: see `hub.pull`.
    """
    place = published(path) if isinstance(mtp, str) and mtp == AUTO else mtp
    if place is None:
        return None
    folder = checkpoint.find(hub.locate(place, token=token, cache_dir=cache_dir, local_files_only=local_files_only))
    if folder.is_dir():
        checkpoint.require_file(folder / "config.json")
    return folder


def published(path: str | os.PathLike[str]) -> str | Path | None:
    """The published drafter of the model at `path`, which is known by its name.

    "fairy", the bundled demo, has one beside it. Any gemma-4-E2B-it-... on the hub has
    google/gemma-4-E2B-it-assistant. A folder of such a name, or a file in one, has the folder gemma-4-E2B-it-assistant
    beside it. None for other names, and where that folder is not there.
    """
    if isinstance(path, str) and path == checkpoint.DEMO:
        return checkpoint.find(path).with_name(_DEMO_DRAFTER)
    place = arguments.path("the model", path)
    if place.exists():
        named = place.resolve() if place.is_dir() else place.resolve().parent
        match = _PUBLISHED.fullmatch(named.name)
        folder = named.parent / f"{match['model']}{_SUFFIX}" if match else None
        return folder if folder is not None and folder.is_dir() else None
    repository = str(path).partition(":")[0]
    match = _PUBLISHED.fullmatch(repository.rpartition("/")[2])
    return f"google/{match['model']}{_SUFFIX}" if match else None
