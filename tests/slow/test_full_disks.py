"""Disks that are full, and files that must not grow, at every size: an error, the old thing, and nothing beside it."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import gemmule
from chat_models import chat_folder
from gemmule.outputs.output import OutputFile
from golden_cases import FIXTURES
from kills import content

SOURCE = FIXTURES / "e2b"
KINDS = {"file": ("q8_0", "q4_0"), "folder": ("w4a16", "mobile")}  # the old thing, the new one


def convert(target, to):
    gemmule.convert(SOURCE, target, to=to, force=True, progress=False, threads=1)


def in_child(work):
    """Whether `work` raised a ResourceError, in a child of its own limits."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except gemmule.ResourceError:
            code = 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 2)
    return code == 2


def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def limit_after(room):
    """The room is there at first; writing fails."""
    take_room = OutputFile.take_room

    def take_and_limit(file):
        take_room(file)
        limit(room)

    OutputFile.take_room = take_and_limit


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("limited", [limit, limit_after], ids=["room", "writes"])
@pytest.mark.parametrize("kind", KINDS)
def test_converting_with_a_limit(kind, limited, tmp_path):
    target, (old, new) = tmp_path / "out", KINDS[kind]
    convert(target, old)
    want = content(target)
    largest = max(len(data) for data in want.values())
    refused = 0
    for size in range(0, 2 * largest, 2 * largest // 150):
        if in_child(lambda size=size: (limited(size), convert(target, new))):
            refused += 1
            assert content(target) == want, size
        else:
            convert(target, old)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    print(f"\n{kind}: refused at {refused} limits of 150")
    assert 10 < refused < 150


def test_saving_with_a_limit(tmp_path):
    model = gemmule.load(chat_folder("mobile", tmp_path / "model"), threads=1, trust_template=True)
    (tmp_path / "saved").mkdir()
    target, asked = tmp_path / "saved" / "out", {"temperature": 0, "max_tokens": 5}
    chat = model.chat()
    chat.send("A fox?", **asked)
    chat.save(target)
    want = content(target)
    chat.send("And then?", **asked)
    refused = 0
    for limited in (limit, limit_after):
        for size in range(0, 2 * len(want[""]), len(want[""]) // 100):
            if in_child(lambda size=size, limited=limited: (limited(size), chat.save(target))):
                refused += 1
                assert content(target) == want, size
            else:
                target.write_bytes(want[""])
            assert [path.name for path in target.parent.iterdir()] == ["out"]
    print(f"\nsaving: refused at {refused} limits of 400")
    assert refused > 100


ON_A_SMALL_DISK = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import gemmule
from kills import content
from golden_cases import FIXTURES
disk, old, new = Path(sys.argv[2]), sys.argv[3], sys.argv[4]
def convert(to):
    gemmule.convert(FIXTURES / "e2b", disk / "out", to=to, force=True, progress=False, threads=1)
convert(old)
want = content(disk / "out")
largest = sum(map(len, want.values()))
refused = 0
for step in range(60):
    size = largest + 50_000 + largest * step // 20
    assert os.system(f"mount -o remount,size={size} {disk}") == 0
    try:
        convert(new)
    except gemmule.ResourceError as error:
        assert "No space left" in error.message, error
        refused += 1
        assert content(disk / "out") == want
    else:
        os.system(f"mount -o remount,size=100m {disk}")
        convert(old)
    assert os.listdir(disk) == ["out"], os.listdir(disk)
print(refused)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_small_disks(kind, tmp_path):
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f'mount -t tmpfs -o size=100m tmpfs "{tmp_path}"'
    if subprocess.run([*alone, mount], capture_output=True).returncode != 0:
        pytest.skip("mounting is not permitted")
    tests = str(Path(__file__).parents[1])
    run = f'{mount} && exec "$0" -c "$1" "{tests}" "{tmp_path}" {" ".join(KINDS[kind])}'
    done = subprocess.run([*alone, run, sys.executable, ON_A_SMALL_DISK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(f"\n{kind}: refused on {done.stdout.strip()} disks of 60")
    assert 5 < int(done.stdout) < 60
