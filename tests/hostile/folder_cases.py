"""Folders that lie with the names of what is in them, and with links."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from checkpoints import make_checkpoint
from gemmule.errors import ArgumentError
from hostile.case import Case

INDEX = "model.safetensors.index.json"
SHARD = "model-00002-of-00003.safetensors"

# Names of GGUF models in one folder.
SEVERAL = {
    "models whose names colour a terminal": (["\x1b[31ma.gguf", "b.gguf"], r"\\u001b\[31ma\.gguf, b\.gguf\n.*such as"),
    "models whose names break lines": (["a\nb.gguf", "c.gguf"], r"a\\nb\.gguf, c\.gguf"),
    "5,000 models": ([f"x{i}.gguf" for i in range(5_000)], r"x0\.gguf, .{,100} and 4995 more"),
}


def write_empty(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT))
    return folder


def write_link(folder: Path, target: str) -> Path:
    make_checkpoint(folder, shards=3)
    (folder / SHARD).unlink()
    (folder / SHARD).symlink_to(target)
    return folder


def cases() -> Iterator[Case]:
    for name, (names, match) in SEVERAL.items():
        yield Case(name, lambda folder, names=names: write_empty(folder, names), match, ArgumentError, r"\.", "")
    for name, target in {"a shard that was not downloaded": "../blobs/none", "a shard in a circle": SHARD}.items():
        yield Case(name, lambda folder, target=target: write_link(folder, target), "index names is missing", file=INDEX)
