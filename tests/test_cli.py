"""The command line, as a shell sees it."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gemmule
from gemmule.command_line import cli

EXCERPT = Path(__file__).parent / "data" / "fairy-excerpt.txt"
PROMPT = "Once upon a time"


def run(*arguments, **options):
    command = [sys.executable, "-m", "gemmule", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_generate_prints_prompt_and_continuation(capsys):
    assert cli.main(["generate", "Once upon", "a time", "-n", "20", "--seed", "1"]) == 0
    expected = gemmule.load("fairy").generate(PROMPT, max_tokens=20, seed=1).text
    assert capsys.readouterr() == (PROMPT + expected + "\n", "")


def test_generate_from_standard_input():
    done = run("generate", "-", "-n", "5", "--temperature", "0", "--json", input=PROMPT + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["prompt"] == PROMPT
    assert (len(said["tokens"]), said["finish_reason"]) == (5, "length")


def test_standard_input_must_be_utf8():
    for arguments in (["generate"], ["perplexity"], ["compare", "fairy", "fairy"]):
        command = [sys.executable, "-m", "gemmule", *arguments, "-"]
        done = subprocess.run(command, input=b"abc\xff", capture_output=True, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(b"gemmule: standard input: not UTF-8 at byte 3")


def test_generate_json(capsys):
    options = ["--seed", "2", "--top-k", "5", "--top-p", "0.9", "--min-p", "0.01", "--repetition-penalty", "1.1"]
    assert (
        cli.main(
            [
                "generate",
                PROMPT,
                "--json",
                "-n",
                "8",
                "--logprobs",
                "--ignore-eos",
                "--kv",
                "float32",
                "--threads",
                "1",
                "--context",
                "64",
                "--activations",
                "float32",
                *options,
            ]
        )
        == 0
    )
    output = capsys.readouterr().out
    said = json.loads(output)
    assert output.count("\n") == 1
    facts = {"finish_reason", "usage", "context_full", "dropped_turns", "thinking", "tool_calls"}
    assert {"prompt", "text", "tokens", "logprobs"} | facts == said.keys()
    assert len(said["logprobs"]) == len(said["tokens"]) == said["usage"]["completion_tokens"] == 8
    assert said["usage"]["total_tokens"] == said["usage"]["prompt_tokens"] + 8


def test_stop_and_no_limit(capsys):
    assert cli.main(["generate", PROMPT, "--stop", "zzz", "--stop", "a", "-n", "none", "--seed", "1"]) == 0
    assert "a" not in capsys.readouterr().out.removeprefix(PROMPT)


def test_perplexity(capsys):
    found = gemmule.perplexity(gemmule.load("fairy"), EXCERPT)
    assert cli.main(["perplexity", str(EXCERPT)]) == 0
    assert f"perplexity {found.perplexity:.4f} +- " in capsys.readouterr().out
    assert cli.main(["perplexity", str(EXCERPT), "--json", "--score", "all", "--stride", "511"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.keys() == {"mean_nll", "stderr", "perplexity", "bits_per_byte", "tokens"}


def test_compare(capsys):
    """Each side has settings of its own; a text comes from standard input as well."""
    static, exact = gemmule.load("fairy", kv="static"), gemmule.load("fairy", kv="float32", activations="float32")
    found = gemmule.compare(static, exact, EXCERPT)
    options = ["--reference-kv", "float32", "--reference-activations", "float32"]
    assert cli.main(["compare", "fairy", "fairy", str(EXCERPT), *options]) == 0
    assert capsys.readouterr() == (f"{found}\n", "")
    turned = gemmule.compare(exact, static, EXCERPT, window=100, score="all", stride=99)
    options = ["--kv", "float32", "--activations", "float32", "--threads", "2", "--context", "100"]
    options += ["--window", "100", "--score", "all", "--stride", "99"]
    done = run("compare", "fairy", "fairy", "-", "--json", "--quiet", *options, input=EXCERPT.read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == turned.to_json() + "\n"


def test_chat_goes_on_with_the_transcript():
    done = run("chat", "-n", "8", "--seed", "1", input="Once upon a time\n\nThen\n/exit\nnever\n")
    assert done.returncode == 0
    assert "no chat template" in done.stderr
    assert len(done.stdout.splitlines()) >= 2
    quiet = run("chat", "-n", "8", "--seed", "1", "--quiet", "--json", input="Once upon a time\nThen\n")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    answers = [json.loads(line) for line in quiet.stdout.splitlines()]
    assert len(answers) == 2
    first, second = (answer["usage"] for answer in answers)
    assert second["prompt_tokens"] > first["total_tokens"] - 2  # all of the transcript


def test_chat_survives_a_long_transcript():
    done = run("chat", "-n", "20", "--context", "32", "--quiet", input="Once upon a time there was a king\n" * 4)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_stops_the_answer_not_the_chat():
    shell, terminal = pty.openpty()
    command = [sys.executable, "-m", "gemmule", "chat", "--ignore-eos", "-n", "none", "--context", "1000", "--quiet"]
    child = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    try:
        seen = read_until(shell, b"> ")
        for _ in range(2):
            os.write(shell, b"Once upon a time\n")
            read_until(shell, b"Once upon a time\r\n")
            read_some(shell, 20)
            child.send_signal(signal.SIGINT)
            seen = read_until(shell, b"> ")
        # At the prompt. A signal just between the prompt and the wait for a key waits for the next key in Python's own
        # readline, so it is sent until it is heard.
        while not select.select([shell], [], [], 0.5)[0]:
            child.send_signal(signal.SIGINT)
        seen = read_until(shell, b"> ")
        os.write(shell, b"/exit\n")
        assert child.wait(20) == 0, seen
    finally:
        child.kill()
        child.wait()
        os.close(shell)


def read_until(shell, end):
    seen = b""
    while not seen.endswith(end):
        seen += os.read(shell, 1)
    return seen


def read_some(shell, count):
    while count > 0:
        count -= len(os.read(shell, count))


def test_errors_are_a_cause_and_a_remedy():
    done = run("generate", "x", "--model", "no/such/folder")
    assert (done.returncode, done.stdout) == (1, "")
    cause, remedy = done.stderr.splitlines()
    assert cause.startswith("gemmule: no/such/folder: ")
    assert remedy


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", PROMPT, "--temperature", "nan"],
        ["perplexity", "no-such-file"],
        ["compare", "fairy", "no-such-folder", str(EXCERPT)],
        ["compare", "fairy", "fairy", "no-such-file"],
        ["generate", ""],
        ["perplexity", str(EXCERPT), "--window", "1"],
        ["perplexity", ""],
        ["convert", "fairy", "no-such-target", "--to", "mobile", "--calibrate", ""],
    ],
)
def test_wrong_values(arguments, capsys):
    assert cli.main(arguments) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("gemmule: ")
    assert len(output.err.splitlines()) <= 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["generate"],
        ["generate", "x", "--kv", "int3"],
        ["generate", "x", "-n", "many"],
        ["compare", "fairy"],
        ["convert", "fairy", "x", "--to", "mobile", "--override", "o=" + "9" * 4500],
        ["convert", "fairy", "x", "--to", "mobile", "--override", "o=5"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"gemmule {gemmule.__version__}\n"


def test_ctrl_c_ends_quietly():
    command = [sys.executable, "-m", "gemmule", "generate", PROMPT, "-n", "none", "--ignore-eos"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.read(len(PROMPT) + 10)
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=20)
    assert (child.returncode, errors) == (130, b"")


def test_a_broken_pipe_is_quiet():
    command = [sys.executable, "-m", "gemmule", "generate", PROMPT, "-n", "none", "--ignore-eos"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.read(4)
        child.stdout.close()
        errors = child.stderr.read()
        assert child.wait(20) == 141
    assert errors == b""


def test_drafting(capsys):
    """Options of a drafter and of drafts reach the model: the text is the same."""
    fixtures = Path(__file__).parent / "fixtures"
    model, greedy = ["--model", str(fixtures / "e2b")], ["-n", "30", "--temperature", "0", "--ignore-eos"]
    said = []
    for options in ([], ["--mtp", str(fixtures / "mtp")], ["--draft", "prompt-lookup"]):
        assert cli.main(["generate", "abc", "--json", *model, *greedy, *options]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0]["tokens"] == said[1]["tokens"] == said[2]["tokens"]
    assert [answer["usage"]["drafted_tokens"] > 0 for answer in said[:2]] == [False, True]
    assert said[0]["usage"]["speed_up"] is None
    assert said[1]["usage"]["speed_up"] > 0
