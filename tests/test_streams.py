"""Standard streams of the command line as shells give them: closed, full, or in another encoding."""

import subprocess
import sys
from pathlib import Path

import pytest

import gemmule
from gemmule.command_line import cli

EXCERPT = Path(__file__).parent / "data" / "fairy-excerpt.txt"


def shell(command, **options):
    """A command line whose "$0" is the program; what it wrote, and its exit code."""
    options = {"capture_output": True, "timeout": 60, "check": False, **options}
    return subprocess.run(["sh", "-c", f'"$0" -m gemmule {command}', sys.executable], **options)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("generate Hi -n 3 >&-", b"standard output is closed"),
        ("chat -n 3 >&-", b"standard output is closed"),
        ("generate Hi -n 3 >/dev/full", b"standard output: No space left on device"),
        ("generate - <&-", b"standard input is closed"),
        ("chat --quiet <&-", b"standard input is closed"),
        ("chat --quiet 0>/dev/null", b"standard input: "),
        ("generate - 0>/dev/null", b"standard input: "),
        ("generate Hi -n 0 2>&-", b""),
    ],
)
def test_errors_are_a_cause_and_a_remedy(command, what):
    done = shell(command, input=None, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, b"")
    lines = done.stderr.splitlines()
    assert len(lines) == (2 if what else 0)
    assert b"".join(lines).startswith(b"gemmule: " * bool(what) + what)


def test_a_full_disk_ends_a_chat(monkeypatch, capfd):
    """Not only the answer."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr("builtins.input", lambda *prompt: "Hi")
        assert cli.main(["chat", "-n", "3", "--json", "--quiet"]) == 1
    assert len(capfd.readouterr().err.splitlines()) == 2


def test_no_standard_error():
    """Remarks go nowhere, not between the answers."""
    done = shell("chat -n 3 --json 2>&-", input=b"Hi\n")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1


def test_chats_from_a_pipe_are_utf8(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-16")
    done = shell("chat -n 3 --quiet", input=b"hi\n\xff\n")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("stream", ["missing", "closed"])
def test_daemons_have_no_standard_error(stream, monkeypatch, tmp_path):
    error = None if stream == "missing" else (tmp_path / "error").open("w")
    if error is not None:
        error.close()
    monkeypatch.setattr(sys, "stderr", error)
    model = gemmule.load("fairy", threads=1)
    assert gemmule.verify("fairy").ok
    gemmule.perplexity(model, EXCERPT, windows=1)
    gemmule.compare(model, model, EXCERPT, windows=1)
    gemmule.convert("fairy", tmp_path / "out.gguf", to="q8_0")


def test_a_fault_of_gemmule_is_no_damage(monkeypatch, capsys):
    """`verify` says by 1 that a checkpoint is damaged."""

    def fails(path, progress):
        raise ZeroDivisionError

    monkeypatch.setattr("gemmule.command_line.checkpoint_verbs.verify", fails)
    assert cli.main(["verify", "fairy"]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err
