"""Output appears only when whole: refused targets, interrupts, kills, full disks, other runs."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import gemmule
from gemmule.outputs import output, renaming
from gemmule.outputs.output import new_file, new_folder

KILLED = Path(__file__).parent / "killed_output.py"


class FileWriter:
    """Writes a file."""

    kind = "file"

    def begin(self, target, size=3, *, sources=(), force=False):
        return new_file(target, size, sources=sources, force=force)

    def fill(self, part, data: bytes) -> None:
        part.write(data)

    def read(self, target: Path) -> bytes:
        return target.read_bytes()

    def __call__(self, target, data=b"new", **options) -> None:
        with self.begin(target, len(data), **options) as part:
            self.fill(part, data)


class FolderWriter(FileWriter):
    """Writes a folder with one file in it."""

    kind = "folder"

    def begin(self, target, size=3, *, sources=(), force=False):
        return new_folder(target, sources=sources, force=force)

    def fill(self, part, data: bytes) -> None:
        part.write("config.json", data)

    def read(self, target: Path) -> bytes:
        assert listing(target) == ["config.json"]
        return (target / "config.json").read_bytes()


write_file, write_folder = FileWriter(), FolderWriter()


@pytest.fixture(params=[write_file, write_folder], ids=lambda writer: writer.kind)
def write(request):
    return request.param


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def checkpoint(folder: Path, data: bytes = b"old") -> Path:
    folder.mkdir()
    (folder / "config.json").write_bytes(data)
    (folder / "model-00001-of-00002.safetensors").write_bytes(data)
    return folder


@pytest.fixture(params=["exchange", "steps"])
def way(request, monkeypatch):
    """How names are exchanged: by the system in one step, or where it cannot."""
    if request.param == "steps":
        monkeypatch.setattr(renaming, "_renameat2", lambda source, target, flag: False)


def test_a_file(tmp_path):
    with new_file(tmp_path / "a.gguf", 8, sources=[]) as file:
        assert not (tmp_path / "a.gguf").exists()
        (name,) = listing(tmp_path)
        assert name.startswith(".a.gguf.")
        assert name.endswith(".part")
        assert os.fstat(file.descriptor).st_blocks > 0
        file.write(b"cd", 4)
        file.write(b"ab")
    assert (tmp_path / "a.gguf").read_bytes() == b"ab\0\0cd\0\0"
    assert listing(tmp_path) == ["a.gguf"]
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a.gguf").stat().st_mode) == 0o666 & ~umask


def test_a_folder(tmp_path):
    with new_folder(tmp_path / "a", sources=[]) as folder:
        folder.write("config.json", b"{}")
        weights = folder.create("model.safetensors", 4)
        os.pwrite(weights.descriptor, b"x", 3)
        assert not (tmp_path / "a").exists()
    assert listing(tmp_path / "a") == ["config.json", "model.safetensors"]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == b"\0\0\0x"
    assert listing(tmp_path) == ["a"]


def test_many_writes_of_a_large_file(tmp_path, monkeypatch):
    """The system may write less than it was given."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:3], offset))
    write_file(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.usefixtures("way")
def test_what_exists_is_replaced_by_force_only(tmp_path, write):
    target = tmp_path / "out"
    write(target, b"old")
    with pytest.raises(gemmule.ArgumentError, match=r"out exists\n.*force=True"):
        write(target, b"new")
    assert write.read(target) == b"old"
    write(target, b"new", force=True)
    assert write.read(target) == b"new"
    assert listing(tmp_path) == ["out"]


def begin_and_raise(write, target, error):
    with write.begin(target, 9, force=True) as part:
        write.fill(part, b"half")
        raise error


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, gemmule.FormatError])
@pytest.mark.parametrize("existed", [False, True])
def test_an_interrupt_leaves_what_was(tmp_path, write, existed, error):
    target = tmp_path / "out"
    if existed:
        write(target, b"old")
    before = listing(tmp_path)
    with pytest.raises(error):
        begin_and_raise(write, target, error("now"))
    assert listing(tmp_path) == before
    if existed:
        assert write.read(target) == b"old"


@pytest.mark.parametrize("way", ["exchange", "steps"])
@pytest.mark.parametrize("before", ["new", "replaced"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_at_any_moment(tmp_path, kind, before, way):
    command = [sys.executable, str(KILLED), str(tmp_path), kind, before, way]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, away = map(int, done.stdout.split())
    assert kills >= 8
    assert away == (1 if (kind, before, way) == ("folder", "replaced", "steps") else 0)


def test_leftovers_of_killed_runs_are_removed(tmp_path, write):
    for name in (".out.0123abcd.part", ".out.00000000.part"):
        (tmp_path / name).write_bytes(b"x")
    checkpoint(tmp_path / ".out.11111111.part")
    others = [".out.part", ".out.0123abc.part", ".xout.0123abcd.part", ".out.0123abcd.parts", ".out.0123ABCD.part"]
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    write(tmp_path / "out")
    assert listing(tmp_path) == sorted([*others, "out"])


def test_another_run_is_left_alone(tmp_path, write):
    target = tmp_path / "out"
    with write.begin(target, 5, force=True) as first:
        write(target, b"second")
        assert write.read(target) == b"second"
        write.fill(first, b"first")
    assert write.read(target) == b"first"
    assert listing(tmp_path) == ["out"]


def test_what_another_run_wrote_stays(tmp_path, write):
    target = tmp_path / "out"

    def two():
        with write.begin(target, 5) as first:
            write(target, b"second")
            write.fill(first, b"first")

    with pytest.raises(gemmule.ArgumentError, match="exists"):
        two()
    assert write.read(target) == b"second"
    assert listing(tmp_path) == ["out"]


def test_a_file_system_without_locks(tmp_path, write, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.EOPNOTSUPP, "no locks")

    monkeypatch.setattr(output.fcntl, "flock", refuse)
    (tmp_path / ".out.0123abcd.part").write_bytes(b"perhaps of another run")
    write(tmp_path / "out")
    assert listing(tmp_path) == [".out.0123abcd.part", "out"]


def test_a_file_system_that_cannot_flush_folders(tmp_path, write, monkeypatch):
    fsync = os.fsync

    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no folders")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write(tmp_path / "out")
    assert write.read(tmp_path / "out") == b"new"


def test_everything_is_flushed_before_and_after_it_gets_its_name(tmp_path, write, monkeypatch):
    """In this order: files, their folder, the name; then the folder that the name stands in."""
    flushed = []
    fsync = os.fsync

    def note(descriptor):
        flushed.append((Path(f"/proc/self/fd/{descriptor}").readlink(), (tmp_path / "out").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path / "out")
    *parts, (parent, last) = flushed
    assert (parent, last) == (tmp_path, True)
    assert [named for _, named in parts] == [False] * len(parts)
    names = [path.name.partition(".out.")[0] for path, _ in parts]
    assert names == ([""] if write is write_file else ["config.json", ""])


def test_what_was_put_aside_comes_back(tmp_path, write):
    checkpoint(tmp_path / ".out.gemmule-aside")
    with pytest.raises(gemmule.ArgumentError, match="out exists"):
        write(tmp_path / "out")
    assert listing(tmp_path) == ["out"]
    assert (tmp_path / "out" / "config.json").read_bytes() == b"old"


def test_what_was_put_aside_is_removed_once_replaced(tmp_path):
    checkpoint(tmp_path / ".out.gemmule-aside", b"older")
    checkpoint(tmp_path / "out")
    write_folder(tmp_path / "out", force=True)
    assert listing(tmp_path) == ["out"]
    assert (tmp_path / "out" / "config.json").read_bytes() == b"new"


def test_a_failed_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(renaming, "_renameat2", lambda source, target, flag: False)
    target = checkpoint(tmp_path / "out")
    rename = Path.rename

    def fail(path, to):
        if path.name.endswith(".part"):
            raise OSError(errno.EIO, "the disk broke")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(gemmule.ResourceError, match="the disk broke"):
        write_folder(target, force=True)
    assert listing(tmp_path) == ["out"]
    assert (target / "config.json").read_bytes() == b"old"


@pytest.mark.usefixtures("way")
def test_renaming_to_a_new_name(tmp_path):
    checkpoint(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(FileExistsError):
        renaming.rename_to_new(tmp_path / "a", tmp_path / "b")
    renaming.rename_to_new(tmp_path / "a", tmp_path / "c")
    assert listing(tmp_path) == ["b", "c"]


def test_exchanging_names(tmp_path):
    checkpoint(tmp_path / "a", b"one")
    checkpoint(tmp_path / "b", b"two")
    if not renaming.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("the system cannot")
    assert (tmp_path / "a" / "config.json").read_bytes() == b"two"
    assert (tmp_path / "b" / "config.json").read_bytes() == b"one"
    with pytest.raises(FileNotFoundError):
        renaming.exchange(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("libc", [None, errno.ENOSYS, errno.EINVAL])
def test_systems_that_cannot_exchange(tmp_path, monkeypatch, libc):
    """Without the function, or a kernel or file system without it."""

    class Library:
        pass

    library = Library()
    if libc is not None:
        library.renameat2 = lambda *arguments: -1
    monkeypatch.setattr(renaming.ctypes, "CDLL", lambda *arguments, **options: library)
    monkeypatch.setattr(renaming.ctypes, "get_errno", lambda: libc)
    target = checkpoint(tmp_path / "out")
    write_folder(target, force=True)
    assert write_folder.read(target) == b"new"
    assert listing(tmp_path) == ["out"]


FOLDERS = {
    "another file": ["config.json", "model.safetensors", "letter.txt"],
    "a folder in it": ["config.json", "photos/one.jpg"],
    "no config": ["model.safetensors"],
    "hidden files": [".bashrc", "config.json"],
    "a name that only begins well": ["config.json", "model.safetensors.bak"],
    "a model of llama.cpp": ["config.json", "model.gguf"],
}


@pytest.mark.parametrize("names", FOLDERS.values(), ids=FOLDERS.keys())
def test_folders_that_gemmule_did_not_write_stay(tmp_path, names):
    for name in names:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("dear")
    with pytest.raises(gemmule.ArgumentError, match="not replaced: it is a folder") as error:
        write_folder(tmp_path / "out", force=True)
    assert error.value.remedy
    assert all((tmp_path / "out" / name).read_text() == "dear" for name in names)
    assert listing(tmp_path) == ["out"]


def test_files_that_appear_while_it_runs_stay(tmp_path):
    target = checkpoint(tmp_path / "out")

    def run():
        with new_folder(target, sources=[], force=True):
            (target / "letter.txt").write_text("dear")

    with pytest.raises(gemmule.ArgumentError, match=r"letter\.txt"):
        run()
    assert (target / "letter.txt").read_text() == "dear"
    assert listing(tmp_path) == ["out"]


def test_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(gemmule.ArgumentError, match="exists"):
        write_folder(tmp_path / "out")
    write_folder(tmp_path / "out", force=True)
    assert listing(tmp_path / "out") == ["config.json"]


def test_kinds_are_not_exchanged(tmp_path):
    folder, file = checkpoint(tmp_path / "folder"), tmp_path / "file"
    file.write_bytes(b"old")
    with pytest.raises(gemmule.ArgumentError, match="it is a folder; expected a file"):
        write_file(folder, force=True)
    with pytest.raises(gemmule.ArgumentError, match="it is a file; expected a folder"):
        write_folder(file, force=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(gemmule.ArgumentError, match="it is a device"):
        write_file(tmp_path / "pipe", force=True)


def test_the_source_is_safe(tmp_path, write):
    source = checkpoint(tmp_path / "source")
    (tmp_path / "link").symlink_to(source)
    for target in (source, source / "out", tmp_path, tmp_path / "link", tmp_path / "link" / "out"):
        with pytest.raises(gemmule.ArgumentError, match="its source"):
            write(target, sources=[source], force=True)
        with pytest.raises(gemmule.ArgumentError, match="its source"):
            write(target, sources=[tmp_path / "link"], force=True)
    gguf = source / "model.gguf"
    gguf.write_bytes(b"old")
    for target in (source, gguf):
        with pytest.raises(gemmule.ArgumentError, match="its source"):
            write(target, sources=[gguf], force=True)
    write(source / "other", sources=[gguf])


def test_a_source_of_links_is_safe(tmp_path, write):
    """As in the hub's cache, where a snapshot's files are links to blobs."""
    blobs, snapshot = checkpoint(tmp_path / "blobs"), tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "config.json").symlink_to(blobs / "config.json")
    for target in (blobs, blobs / "config.json"):
        with pytest.raises(gemmule.ArgumentError, match="its source"):
            write(target, sources=[snapshot], force=True)


def test_a_link_stays_one(tmp_path, write):
    write(tmp_path / "real", b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert write.read(tmp_path / "real") == b"new"


@pytest.mark.parametrize("target", ["", 7, b"x", None, "a\0b", "/", "//", "~nobody-of-that-name/a", np.zeros(2)])
def test_targets_that_are_no_paths(target, write):
    with pytest.raises(gemmule.ArgumentError, match="expected a path"):
        write(target)


def test_a_working_folder_that_is_gone(tmp_path, write, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(gemmule.MissingFileError, match="working folder"):
        write("a")


def test_links_in_a_circle(tmp_path, write):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(gemmule.GemmuleError):
        write(tmp_path / "a" / "x", force=True)
    assert listing(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("length", [250, 300])
def test_too_long_a_name(tmp_path, write, length):
    with pytest.raises(gemmule.GemmuleError, match="File name too long"):
        write(tmp_path / ("x" * length))


def test_a_missing_folder(tmp_path, write):
    with pytest.raises(gemmule.MissingFileError, match=r'no such folder\nMake it first: mkdir -p ".*/a"'):
        write(tmp_path / "a" / "b")


def refused(tmp_path, write, match):
    with pytest.raises(gemmule.ResourceError, match=match) as error:
        write(tmp_path / "out")
    assert error.value.remedy
    assert listing(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_found_before_the_work(tmp_path, write, monkeypatch, code):
    def refuse(descriptor, offset, size):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    refused(tmp_path, write, r"out.*: .*\nMake room for 3 B on the disk of ")


@pytest.mark.parametrize("name", ["pwrite", "fsync"])
def test_a_disk_that_breaks_later(tmp_path, write, monkeypatch, name):
    def refuse(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, name, refuse)
    refused(tmp_path, write, "Input/output error")


LIMITED = """
import json, os, resource, sys
import gemmule
from gemmule.outputs.output import new_file, new_folder
kind, target, size, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if kind == "file":
        with new_file(target, size, sources=[]) as file:
            raise SystemExit("the work began")
    with new_folder(target, sources=[]) as folder:
        folder.create("config.json", 100)
        folder.create("model.safetensors", size)
        raise SystemExit("the work began")
except gemmule.ResourceError as error:
    print(json.dumps([error.message, error.remedy, os.listdir(os.path.dirname(target))]))
"""


def limited(command: list[str]) -> list:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_limit_of_files(tmp_path, kind):
    target = str(tmp_path / "out")
    message, remedy, left = limited([sys.executable, "-c", LIMITED, kind, target, "2000000", "1000000"])
    assert "File too large" in message
    assert "files of 2.00 MB" in remedy
    assert left == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_small_disk(tmp_path, kind):
    mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}"'
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    try:
        allowed = subprocess.run([*alone, mount], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("mounting is not permitted")
    run = f'{mount} && exec "$0" -c "$1" {kind} "{tmp_path}/out" 2000000 0'
    message, remedy, left = limited([*alone, run, sys.executable, LIMITED])
    assert "No space left on device" in message
    assert "Make room for 2.00 MB" in remedy
    assert left == []


def test_an_interrupt_does_not_wait_for_room_to_be_given_back(tmp_path, write, monkeypatch):
    closing, closed = threading.Event(), threading.Event()
    close = os.close

    def slowly(descriptor):
        if threading.current_thread() is not threading.main_thread():
            closing.set()
            assert closed.wait(20)
        close(descriptor)

    monkeypatch.setattr(os, "close", slowly)
    with suppress(KeyboardInterrupt), write.begin(tmp_path / "out") as part:
        write.fill(part, b"new")
        raise KeyboardInterrupt
    assert closing.wait(20)
    assert part.descriptor >= 0
    assert listing(tmp_path) == []
    closed.set()
    while part.descriptor >= 0:
        time.sleep(0.01)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_is_not_writable(tmp_path, write, monkeypatch, code):
    """Where the system says so: root may write anywhere."""

    def refuse(path, *arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open" if write is write_file else "mkdir", refuse)
    with pytest.raises(gemmule.ResourceError, match=r"Make .* writable"):
        write(tmp_path / "out")
    monkeypatch.undo()
    assert listing(tmp_path) == []
