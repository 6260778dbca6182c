"""How the build finds Highway: cmake/find_highway.py, without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import shutil
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "cmake" / "find_highway.py"


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with both of its ways to the network closed."""
    spec = importlib.util.spec_from_file_location("find_highway", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "find_highway", module)  # dataclasses look their module up
    spec.loader.exec_module(module)

    def no_network(target: Path) -> None:
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(module, "fetch_from_index", no_network)
    monkeypatch.setattr(module, "fetch_release", no_network)
    return module


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def write_tree(finder: ModuleType, tree: Path, version: str = "1.3") -> Path:
    """A tree that has what the finder looks at."""
    (tree / "hwy").mkdir(parents=True)
    for name in finder.SOURCES:
        (tree / "hwy" / name).touch()
    major, minor = version.split(".")
    (tree / "hwy" / "base.h").write_text(f"#define HWY_MAJOR {major}\n#define HWY_MINOR {minor}\n")
    return tree


def write_archive(finder: ModuleType, file: Path, folder: str) -> str:
    """An archive of such a tree below `folder`, with members that must not be unpacked; returns its SHA-256."""
    tree = write_tree(finder, file.parent / "packed")
    with tarfile.open(file, "w:gz") as archive:
        archive.add(tree, folder)
        for name in (
            f"{folder}/LICENSE",
            f"{folder}/docs/guide.md",
            f"{folder}/hwy/../../../escaped",
            "elsewhere/hwy/x.h",
        ):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        link = tarfile.TarInfo(f"{folder}/hwy/link.h")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def offer_archive(finder: ModuleType, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Puts a small archive in the place of numpy's, as if pip had found it."""
    sha256 = write_archive(finder, file, str(finder.NUMPY.folder))
    monkeypatch.setattr(finder, "NUMPY", replace(finder.NUMPY, sha256=sha256))
    monkeypatch.setattr(finder, "fetch_from_index", lambda target: shutil.copyfile(file, target))


def test_named_folder_is_used_before_the_cache(finder: ModuleType, environ: dict[str, str], tmp_path: Path) -> None:
    write_tree(finder, finder.places(environ, tmp_path)[0])
    named = write_tree(finder, tmp_path / "named", "1.2")
    assert finder.find({**environ, "GEMMULE_HIGHWAY_DIR": str(named)}, tmp_path) == named


@pytest.mark.parametrize(
    ("version", "missing", "message"),
    [
        ("1.0", None, "holds Highway 1.0; gemmule needs 1.2 or newer"),
        ("1.3", "targets.cc", "incomplete: no hwy/targets.cc"),
        ("1.3", "base.h", "holds no Highway tree"),
    ],
)
def test_named_folder_must_be_good(
    finder: ModuleType, environ: dict[str, str], tmp_path: Path, version: str, missing: str | None, message: str
) -> None:
    write_tree(finder, finder.places(environ, tmp_path)[0])  # not a way out
    named = write_tree(finder, tmp_path / "named", version)
    if missing:
        (named / "hwy" / missing).unlink()
    with pytest.raises(finder.UnusableError, match=rf"^GEMMULE_HIGHWAY_DIR: .*{re.escape(message)}"):
        finder.find({**environ, "GEMMULE_HIGHWAY_DIR": str(named)}, tmp_path)


def test_cached_tree_needs_no_network(finder: ModuleType, environ: dict[str, str], tmp_path: Path) -> None:
    cached = write_tree(finder, tmp_path / "cache" / "gemmule" / "highway-1.3.0")
    assert finder.find(environ, tmp_path) == cached


def test_archive_is_unpacked_into_the_cache(
    finder: ModuleType, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_archive(finder, monkeypatch, tmp_path / "numpy.tar.gz")
    tree = finder.find(environ, tmp_path)
    assert tree == tmp_path / "cache" / "gemmule" / "highway-1.3.0"
    found = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert found == {"LICENSE", "hwy/base.h", *(f"hwy/{name}" for name in finder.SOURCES)}
    assert [path.name for path in tree.parent.iterdir()] == ["highway-1.3.0"]  # the scratch folder is gone
    assert not list(tmp_path.rglob("escaped"))


def test_archive_with_another_hash_is_refused(
    finder: ModuleType, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_archive(finder, monkeypatch, tmp_path / "numpy.tar.gz")
    monkeypatch.setattr(finder, "NUMPY", replace(finder.NUMPY, sha256="0" * 64))
    with pytest.raises(finder.UnusableError, match=f"has SHA-256 [0-9a-f]{{64}}; expected {'0' * 64}"):
        finder.find(environ, tmp_path)
    assert not list((tmp_path / "cache" / "gemmule").iterdir())


def test_release_is_the_last_way(
    finder: ModuleType, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "release.tar.gz"
    monkeypatch.setattr(
        finder, "RELEASE", replace(finder.RELEASE, sha256=write_archive(finder, file, str(finder.RELEASE.folder)))
    )
    monkeypatch.setattr(finder, "fetch_release", lambda target: shutil.copyfile(file, target))
    finder.check_tree(finder.find(environ, tmp_path))


def test_faster_build_keeps_its_tree(
    finder: ModuleType, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_archive(finder, monkeypatch, tmp_path / "numpy.tar.gz")
    fetch = finder.fetch_from_index
    place = finder.places(environ, tmp_path)[0]

    def fetch_while_another_build_ends(target: Path) -> None:
        write_tree(finder, place, "1.4")
        fetch(target)

    monkeypatch.setattr(finder, "fetch_from_index", fetch_while_another_build_ends)
    assert finder.find(environ, tmp_path) == place
    assert "#define HWY_MINOR 4" in (place / "hwy" / "base.h").read_text()


def test_damaged_cache_is_replaced(
    finder: ModuleType, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_archive(finder, monkeypatch, tmp_path / "numpy.tar.gz")
    place = write_tree(finder, finder.places(environ, tmp_path)[0])
    (place / "hwy" / "abort.cc").unlink()
    finder.check_tree(finder.find(environ, tmp_path))
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_build_folder_serves_where_the_cache_cannot_be_written(
    finder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_archive(finder, monkeypatch, tmp_path / "numpy.tar.gz")
    (tmp_path / "file").touch()  # a folder below it cannot be made, not even by root
    build = tmp_path / "build"
    environ = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    assert finder.find(environ, build) == build / "highway-1.3.0"


def test_relative_cache_folder_is_ignored(finder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    first = finder.places({"XDG_CACHE_HOME": "relative"}, tmp_path / "build")[0]
    assert first == tmp_path / ".cache" / "gemmule" / "highway-1.3.0"


def test_failure_names_every_way_and_the_remedy(finder: ModuleType, environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(finder.UnusableError) as caught:
        finder.find(environ, tmp_path)
    message = str(caught.value)
    for part in (
        "hwy package of at least 1.2",
        str(finder.places(environ, tmp_path)[0]),
        "pip's package index: ConnectionError: no network in tests",
        finder.RELEASE_URL,
        "an index given only on the\n  command line is not seen inside the isolated build",
        "GEMMULE_HIGHWAY_DIR",
    ):
        assert part in message
