"""Python ends while threads generate: soon, with its own exit code, and without a crash."""

import subprocess
import sys
import time

import pytest

HEAD = """
import atexit
last = []
atexit.register(lambda: [call() for call in last])  # before gemmule's, so it comes behind that
import asyncio, os, signal, sys, threading, time, gemmule
model = gemmule.load("fairy", threads=2)
chat = model.chat
ids = list(range(3, 60))
going = threading.Event()
def mark(ids, logits): going.set()

def generate():
    while True: model.generate(ids, max_tokens=None, ignore_eos=True, logits_processors=[mark], draft=None)
def native():
    while True:
        going.set()
        model.logits(ids)
def stream():
    while True:
        for _ in model.stream("Once", max_tokens=None, ignore_eos=True, logprobs=False): going.set()
def together():
    while True: model.generate([ids, ids[:9]], max_tokens=None, ignore_eos=True, logits_processors=[mark])
def tasks():
    async def main():
        while True:
            async for _ in model.astream("Once", max_tokens=None, ignore_eos=True): going.set()
    asyncio.run(main())
def load():
    while True:
        gemmule.load("fairy").tokenizer.encode("Once upon a time " * 2000)
        going.set()
def encode():
    while True:
        model.tokenizer.encode("a " * 3000)  # so many ids that numpy would copy them without Python's lock
        going.set()
def structure():
    while True:
        model.generate(ids, max_tokens=20, regex="[a-z ]+")
        going.set()
def errors():
    decoder = model._new_decoder()
    import numpy
    while True:
        try: decoder.logits(numpy.array([-1], numpy.int32))
        except gemmule.ArgumentError: going.set()

def begin(work, daemon, count=3):
    for _ in range(count): threading.Thread(target=work, daemon=daemon).start()
    assert going.wait(20)
    time.sleep(0.05)
"""

WORK = ["generate", "native", "stream", "together", "tasks", "load", "encode", "structure", "errors"]
ENDS = {
    "normally": ("", 0),
    "by sys.exit": ("sys.exit(3)", 3),
    "by an error": ("raise LookupError('mine')", 1),
}


def run(script, timeout=60):
    """Exit code, what it printed, and seconds from the word "end" on."""
    child = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", HEAD + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed = child.stdout.readline()
        begin = time.monotonic()
        rest, errors = child.communicate(timeout=timeout)
    finally:
        child.kill()
    return child.returncode, printed + rest, errors, time.monotonic() - begin


def assert_ended(script, code):
    returned, printed, errors, seconds = run(script)
    assert (returned, printed) == (code, "end\n"), errors
    assert not any(word in errors for word in ("Fatal", "terminate", "rethrown", "Segmentation")), errors
    assert seconds < 5  # a second or two; other programs may have the processor


@pytest.mark.parametrize("work", WORK)
def test_daemons_in_the_middle(work):
    assert_ended(f"begin({work}, daemon=True)\nprint('end', flush=True)", 0)


@pytest.mark.parametrize(("end", "code"), ENDS.values(), ids=ENDS)
def test_every_end(end, code):
    assert_ended(f"begin(generate, daemon=True)\nbegin(tasks, daemon=True)\nprint('end', flush=True)\n{end}", code)


def test_threads_that_python_waits_for_come_to_their_end():
    script = """
def some():
    got.append(model.generate("Once", seed=1, max_tokens=30).tokens)
got = []
threading.Thread(target=some).start()
want = model.generate("Once", seed=1, max_tokens=30).tokens
last.append(lambda: print("end" if got == [want] else got))
"""
    returned, printed, errors, _ = run(script)
    assert (returned, printed) == (0, "end\n"), errors


def test_generating_while_python_ends():
    """The thread that ends Python may still use the model, when the others have stopped for ever."""
    script = """
begin(generate, daemon=True)
want = model.generate("Once", seed=1, max_tokens=30).tokens
last.append(lambda: print("end" if model.generate("Once", seed=1, max_tokens=30).tokens == want else "other"))
"""
    returned, printed, errors, _ = run(script)
    assert (returned, printed) == (0, "end\n"), errors


def test_ctrl_c_while_python_waits_for_a_thread():
    """A second one ends the waiting: the thread goes as a daemon would."""
    script = "begin(generate, daemon=False)\nprint('end', flush=True)\n"
    script += "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
    script += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    returned, printed, errors, seconds = run(script)
    assert (returned, printed) == (0, "end\n"), errors
    assert "Fatal" not in errors
    assert seconds < 5


def test_work_of_others_that_does_not_end():
    """Two seconds are waited for it."""
    script = """
def busy():
    with gemmule._core.EndWaits():
        going.set()
        time.sleep(100)
begin(busy, daemon=True)
print("end", flush=True)
"""
    assert_ended(script, 0)


def test_work_of_others_is_waited_for_and_none_is_left_of_it_in_a_fork():
    script = """
done = threading.Event()
def busy():
    with gemmule._core.EndWaits():
        with gemmule._core.EndWaits(): going.set()
        time.sleep(0.5)
        done.set()
with gemmule._core.EndWaits():
    if os.fork() == 0: os.dup2(os.open(os.devnull, os.O_WRONLY), 1); sys.exit(5)
begun = time.monotonic()
code = os.waitstatus_to_exitcode(os.wait()[1])
seconds = time.monotonic() - begun
begin(busy, daemon=True)
last.append(lambda: print("end" if done.is_set() and code == 5 and seconds < 1.5 else (done.is_set(), code, seconds)))
"""
    returned, printed, errors, _ = run(script)
    assert (returned, printed) == (0, "end\n"), errors
