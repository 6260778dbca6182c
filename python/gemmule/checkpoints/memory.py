"""How much memory a process may still take, of the machine and of the cgroup it runs in, and what it has taken."""

from __future__ import annotations

import contextlib
from pathlib import Path


def available_bytes(
    meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> tuple[int, str] | None:
    """The smallest of what the machine has available and what each cgroup above the process has left, and who says so.

    Pages of files count as available, also those of a checkpoint that another process has mapped: the system gives them
    away or shares them. None where the system does not tell.
    """
    found = []
    with contextlib.suppress(OSError, LookupError, ValueError):
        found.append((_bytes_in(meminfo, "MemAvailable"), "the machine"))
    found += [(left, "the cgroup") for folder in _folders(groups, own) if (left := _left_in(folder)) is not None]
    return min(found, default=None)


def own_bytes(which: str) -> int:
    """Of this process: "VmHWM", the most ever resident; "RssAnon", its own pages now; "RssFile", mapped ones now."""
    return _bytes_in(Path("/proc/self/status"), which)


def _bytes_in(file: Path, name: str) -> int:
    values = {key: value for key, _, value in (line.partition(":") for line in _text(file).splitlines())}
    return int(values[name].split()[0]) * 1024  # stands in kB


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _folders(groups: Path, own: Path) -> list[Path]:
    """Folders of the process's memory cgroups: of version 2 and of version 1, from the innermost up."""
    folders = []
    with contextlib.suppress(OSError):
        for line in _text(own).splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root = groups / "memory" if controllers else groups
            folder = root / path.lstrip("/")
            folders += [folder, *(above for above in folder.parents if above.is_relative_to(root))]
    return folders


def _left_in(folder: Path) -> int | None:
    """Bytes that a cgroup may still take, pages of files counted as free; None where it has no limit."""
    for limit, used, pages in (
        ("memory.max", "memory.current", "file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            most, now = int(_text(folder / limit)), int(_text(folder / used))
            stat = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines())
            return max(0, most - max(0, now - int(stat.get(pages, 0))))
    return None
