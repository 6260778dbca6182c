"""Prints the folder of a Highway source tree, fetching it once where the machine has none.

Called by cmake/Highway.cmake, after CMake has found no installed Highway, with a folder of the build as its one
argument. Looks, in this order, at

1. the folder that GEMMULE_HIGHWAY_DIR names: it must be good;
2. our cache folder, or one in the build's folder where the cache cannot be written;
3. the package index that pip is configured with: numpy's source distribution carries Highway;
4. Highway's own release archive.

What 3 and 4 bring is checked against a known SHA-256 and kept in the cache. The reasons stand in
docs/decisions/0001-build-and-highway.md.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

MINIMUM_VERSION = (1, 2)  # 1.0 lacks SumOfMulQuadAccumulate
SOURCES = (
    "abort.cc",
    "aligned_allocator.cc",
    "highway.h",
    "foreach_target.h",
    "per_target.cc",
    "print.cc",
    "targets.cc",
)
FOLDER = "highway-1.3.0"  # of a fetched tree
RELEASE_URL = "https://github.com/google/highway/archive/refs/tags/1.3.0.tar.gz"
RELEASE_TIMEOUT_S = 10.0  # to connect, and between two pieces of the file


@dataclass(frozen=True)
class Archive:
    """A .tar.gz file that carries Highway 1.3.0."""

    name: str
    sha256: str
    folder: PurePosixPath  # of Highway's tree inside the archive


NUMPY = Archive(
    name="numpy-2.4.6.tar.gz",
    sha256="f3a3570c4a2a16746ac2c31a7c7c7b0c186b95ce902e33db6f28094ed7387dda",
    folder=PurePosixPath("numpy-2.4.6/numpy/_core/src/highway"),
)
RELEASE = Archive(
    name="highway-1.3.0.tar.gz",
    sha256="07b3c1ba2c1096878a85a31a5b9b3757427af963b1141ca904db2f9f4afe0bc2",
    folder=PurePosixPath("highway-1.3.0"),
)


class UnusableError(Exception):
    """Why one of the ways does not lead to a tree."""


def check_tree(tree: Path) -> None:
    """Raises UnusableError unless the folder holds a Highway that is new enough and complete."""
    try:
        header = (tree / "hwy" / "base.h").read_text(encoding="utf-8")
    except OSError as error:
        raise UnusableError(f"{tree} holds no Highway tree (hwy/base.h: {error.strerror})") from error
    numbers = [re.search(rf"^#define HWY_{part} (\d+)", header, re.MULTILINE) for part in ("MAJOR", "MINOR")]
    version = tuple(int(number[1]) for number in numbers if number)
    if len(version) != 2 or version < MINIMUM_VERSION:
        found = ".".join(map(str, version)) or "one without a version"
        raise UnusableError(
            f"{tree} holds Highway {found}; gemmule needs {'.'.join(map(str, MINIMUM_VERSION))} or newer"
        )
    for name in SOURCES:
        if not (tree / "hwy" / name).is_file():
            raise UnusableError(f"{tree} is incomplete: no hwy/{name}")


def places(environ: Mapping[str, str], build: Path) -> list[Path]:
    """Where a fetched tree may be kept: the user's cache, which serves every build, then the build's own folder."""
    # The XDG base directory specification says that a relative path is to be ignored.
    cache = Path(environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        try:
            cache = Path.home() / ".cache"
        except RuntimeError:  # a container's user may have no home
            return [build / FOLDER]
    return [cache / "gemmule" / FOLDER, build / FOLDER]


def writable(place: Path) -> bool:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=place.parent).cleanup()
    except OSError:
        return False
    return True


def fetch_from_index(target: Path) -> None:
    """Writes numpy's source distribution to `target`, from wherever pip finds it.

    `pip download` would build the package's metadata, which means minutes of compiling: this takes the link only.
    """
    from pip._internal.commands import create_command

    command: Any = create_command("install")  # reads pip's configuration as the `pip install` that called us does
    # The package's own name outranks an --only-binary of the configuration.
    options, _ = command.parse_args(["--no-input", "--no-binary", "numpy"])
    with command.main_context():
        session = command.get_default_session(options)
        # Nothing of numpy is run: the Python it asks for does not matter.
        finder = command._build_package_finder(options, session, ignore_requires_python=True)
        links = [candidate.link for candidate in finder.find_all_candidates("numpy")]
        matching = [link for link in links if link.filename == NUMPY.name]
        if not matching:
            raise UnusableError(f"pip's package index has no {NUMPY.name} ({len(links)} other files of numpy seen)")
        # Some servers compress on the way: identity asks for the file's own bytes.
        with session.get(
            matching[0].url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True
        ) as reply:
            reply.raise_for_status()
            with target.open("wb") as out:
                shutil.copyfileobj(reply.raw, out)


def fetch_release(target: Path) -> None:
    """Writes Highway's own archive to `target`."""
    with urllib.request.urlopen(RELEASE_URL, timeout=RELEASE_TIMEOUT_S) as reply, target.open("wb") as out:
        shutil.copyfileobj(reply, out)


def check_hash(archive: Archive, file: Path) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != archive.sha256:
        raise UnusableError(f"{archive.name} has SHA-256 {found}; expected {archive.sha256}")


def extract(archive: Archive, file: Path, tree: Path) -> None:
    """Writes Highway's licence and its folder hwy/ into `tree`; of the members, only plain files at safe paths."""
    with tarfile.open(file, "r:gz") as members:
        for member in members:
            path = PurePosixPath(member.name)
            if not path.is_relative_to(archive.folder) or ".." in path.parts:
                continue
            inside = path.relative_to(archive.folder)
            data = members.extractfile(member) if member.isreg() else None
            if data is not None and inside.parts[:1] in (("hwy",), ("LICENSE",)):
                out = tree / inside
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes(data.read())


def store(tree: Path, place: Path) -> None:
    """Moves a checked tree to its place in one step. Where another build was faster, its tree stays."""
    try:
        tree.rename(place)
    except OSError:  # the place is taken
        try:
            check_tree(place)
        except UnusableError:  # left by something else than this program: replace it
            place.rename(tree.with_name("unusable"))
            tree.rename(place)


def fetch_tree(archive: Archive, fetch: Callable[[Path], None], place: Path) -> None:
    """Fetches, checks and unpacks an archive, and puts the tree at `place`."""
    # Beside the place, so that the move at the end stays on one file system.
    with tempfile.TemporaryDirectory(prefix=f"{place.name}.", dir=place.parent) as work:
        file = Path(work) / archive.name
        fetch(file)
        check_hash(archive, file)
        tree = Path(work) / "tree"
        extract(archive, file, tree)
        check_tree(tree)
        store(tree, place)


def find(environ: Mapping[str, str], build: Path) -> Path:
    """The first good tree, or UnusableError with everything that was tried."""
    named = environ.get("GEMMULE_HIGHWAY_DIR")
    if named:
        try:
            check_tree(Path(named))
        except UnusableError as error:
            raise UnusableError(f"GEMMULE_HIGHWAY_DIR: {error}") from error
        return Path(named)

    tried = ["an installed hwy package of at least 1.2: CMake found none"]
    for place in places(environ, build):
        try:
            check_tree(place)
            return place
        except UnusableError as error:
            tried.append(f"a tree kept by an earlier build: {error}")
    place = next(filter(writable, places(environ, build)))
    for way, archive, fetch in (
        ("pip's package index", NUMPY, fetch_from_index),
        (RELEASE_URL, RELEASE, fetch_release),
    ):
        try:
            fetch_tree(archive, fetch, place)
            return place
        except UnusableError as error:
            tried.append(f"{way}: {error}")
        # pip's internals promise nothing, not even which exceptions they raise: whatever goes wrong, the next way is
        # tried. SystemExit is what its option parser raises.
        except (Exception, SystemExit) as error:
            tried.append(f"{way}: {type(error).__name__}: {error}")
    raise UnusableError(
        "\n".join(
            [
                "gemmule needs the C++ library Highway, and found it nowhere:",
                *(f"  - {line}" for line in tried),
                "  pip's index is the one of its configuration (pip.conf, PIP_INDEX_URL): an index given only on the",
                "  command line is not seen inside the isolated build. Remedy: configure the index there, or unpack a",
                "  Highway source tree and set the environment variable GEMMULE_HIGHWAY_DIR to its folder.",
            ]
        )
    )


def main() -> int:
    try:
        print(find(os.environ, Path(sys.argv[1])).resolve())
    except UnusableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
