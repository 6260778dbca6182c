"""Calls that overlap: an object that serves one at a time refuses the second; what a call was given is read once."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gemmule
from checkpoints import make_checkpoint, write_safetensors
from gemmule import _core
from gemmule.reference import read_folder
from golden_cases import FIXTURES, read_case

IDS = np.arange(3, 43, dtype=np.int32)
OPTIONS = {"temperature": 1.0, "top_k": 0, "top_p": 0.9, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 1}


def loaded(name="e2b"):
    return _core.Model.load(str(FIXTURES / name), 2, 0, "auto", "auto")


def drafting(model):
    """A drafter, which each thread asks for drafts of a sequence of its own."""
    drafter = _core.Drafter(_core.DraftModel.load(str(FIXTURES / "mtp"), model, "auto"))

    def draft(decoder):
        decoder.rewind(0)
        decoder.prefill(IDS)
        return drafter.draft(decoder, 5, 20)

    return draft


def sampling(model):
    """A sampler, which several batches use; the logits are so many that it takes a while."""
    logits = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    sampler = _core.Sampler(**OPTIONS)

    def sample(batch):
        return batch.sample([sampler], [logits], [IDS])

    return sample


def stepping(model):
    batch = _core.Batch(model)

    def step(decoder):
        decoder.rewind(0)
        batch.prefill(decoder, IDS)

    return step


def calibrating(model):
    calibration = _core.Calibration(str(FIXTURES / "mobile_source"), 2)
    return lambda _: calibration.observe(IDS)


def measuring(model):
    bench = _core.bench.KernelBench(2, False)
    matrices = _core.bench.matrices(model)[:1]
    x = np.ones((8, matrices[0].cols), np.float32)
    return lambda _: bench.linears(matrices * 50, x)


KINDS = {
    "drafter": (drafting, _core.Decoder),
    "sampler": (sampling, _core.Batch),
    "batch": (stepping, _core.Decoder),
    "calibration": (calibrating, _core.Decoder),
    "bench": (measuring, _core.Decoder),
}


@pytest.mark.parametrize("name", KINDS)
def test_one_at_a_time(name):
    """Of four threads that use one object some are refused, by its name, and none does harm."""
    make, own = KINDS[name]
    model = loaded()
    call = make(model)

    def work(_):
        refused = set()
        mine = own(model)
        for _ in range(100):
            try:
                call(mine)
            except gemmule.ArgumentError as error:
                refused.add(str(error))
        return refused

    with ThreadPoolExecutor(4) as threads:
        refused = set().union(*threads.map(work, range(4)))
    words = f"this {name} is in use by another call\nGive each thread a {name} of its own; the model may be shared."
    assert refused == {words}
    call(own(model))


def test_the_length_and_bytes_of_a_sequence_that_is_read():
    """The length is there at any time; the bytes are asked for by a call, one of two at once is refused."""
    model = loaded()
    decoder = _core.Decoder(model)
    done = threading.Event()
    refused = []

    def attempt(call):
        try:
            call()
        except gemmule.ArgumentError as error:
            refused.append(str(error))

    def ask():
        while not done.is_set():
            assert 0 <= decoder.length <= 200
            attempt(lambda: decoder.cache_bytes)
            time.sleep(0.0002)  # or the other thread would hardly get its turn

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask)
        try:
            for _ in range(10):
                attempt(lambda: decoder.rewind(0))
                while decoder.length < 200:
                    attempt(lambda: decoder.read(IDS))
        finally:
            done.set()
        asking.result()
    assert decoder.cache_bytes > 0
    assert all("this conversation is in use by another call" in each for each in refused)


@pytest.mark.parametrize("call", ["logits", "score", "embed"])
def test_ids_are_taken_when_a_call_begins(call):
    """Another thread may write into the array that a call was given."""
    model = gemmule.load(FIXTURES / "dense", threads=2)
    ids = np.resize(np.arange(3, 300, dtype=np.int32), 1000)
    calls = {
        "logits": lambda ids: model.logits(ids)[-1],
        "score": lambda ids: model.score(ids).logprobs,
        "embed": lambda ids: model.embed([ids]),
    }
    want = calls[call](ids.copy())
    given = ids.copy()
    begun = threading.Event()
    refused = []

    def spoil():
        begun.wait()
        for value in (2_000_000_000, -1):
            for _ in range(50):
                given[1:] = value

    with ThreadPoolExecutor(1) as threads:
        spoiling = threads.submit(spoil)
        for _ in range(3):
            given[:] = ids
            try:
                begun.set()
                got = calls[call](given)
            except gemmule.ArgumentError as error:
                refused.append(str(error))  # the other thread came first
            else:
                assert got.shape == np.shape(want)
        spoiling.result()
    assert all("token id" in each for each in refused)


def test_arrays_that_lie_askew():
    model = gemmule.load(FIXTURES / "dense")
    for offset in (1, 2, 3):
        askew = np.frombuffer(b"\0" * offset + IDS.tobytes(), np.int32, offset=offset)
        assert np.array_equal(model.logits(askew), model.logits(IDS))
        logits = np.frombuffer(b"\0" * offset + np.ones(8, np.float32).tobytes(), np.float32, offset=offset)
        with pytest.raises(gemmule.ArgumentError, match="aligned"):
            _core.log_probability(logits, 1)


def test_none_is_no_object():
    model = loaded()
    for make in (_core.Decoder, _core.Batch, _core.Drafter, _core.bench.matrices):
        with pytest.raises(TypeError):
            make(None)
    with pytest.raises(TypeError):
        _core.DraftModel.load(str(FIXTURES / "mtp"), None, "auto")
    with pytest.raises(TypeError):
        _core.Decoder.from_states(None, 0, [])
    with pytest.raises(gemmule.ArgumentError, match="None"):
        _core.Decoder.shared_cache_bytes([_core.Decoder(model), None])
    with pytest.raises(gemmule.ArgumentError, match="None"):
        _core.bench.KernelBench(1, False).linears([None], np.ones((1, 8), np.float32))


def test_rows_that_there_are_not():
    source = _core.Source(str(FIXTURES / "e2b"), 1)
    rows = source.tensors()[0][1][0]
    for first, count in ((rows, 1), (rows - 1, 2), (2**62, 1), (10**7, 1)):
        with pytest.raises(gemmule.ArgumentError, match=f"has {rows}"):
            source.rows(0, first, count)


def test_an_interrupt_comes_out_of_a_call_that_fails(tmp_path):
    """The call looks for signals first and then meets a row that is broken: the handler's exception is the one."""
    folder = make_checkpoint(tmp_path / "a", dtype="F32")
    tensors = read_folder(folder)
    rows = tensors["model.language_model.embed_tokens_per_layer.weight"].copy()
    rows[5, 0] = np.nan
    write_safetensors(
        folder / "model.safetensors", tensors | {"model.language_model.embed_tokens_per_layer.weight": rows}
    )
    model = _core.Model.load(str(folder), 1, 0, "auto", "auto")
    ids = np.full(64, 7, np.int32)
    ids[-1] = 5

    class Stop(BaseException):
        pass

    armed = False  # for one interrupt, at a time when it is caught

    def stop(*_):
        nonlocal armed
        if armed:
            armed = False
            raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    done = threading.Event()
    me = threading.main_thread().ident

    def send():
        while not done.wait(0.0007):
            signal.pthread_kill(me, signal.SIGUSR1)

    stopped = 0
    sender = threading.Thread(target=send)
    gc.disable()  # Python loses what comes in a callback of the collector's, and Hypothesis has one
    try:
        sender.start()
        while stopped < 300:
            try:
                armed = True
                with pytest.raises(gemmule.FormatError, match="in row 5"):
                    _core.Decoder(model).logits(ids)
                armed = False
            except Stop:
                stopped += 1
    finally:
        done.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
        gc.enable()


TARGETS = """
import sys, threading
import numpy as np
import gemmule
model = gemmule.load(sys.argv[1], threads=1)
ids = np.arange(3, 43, dtype=np.int32)
want = model.logits(ids)
done = threading.Event()
def ask():
    while not done.is_set():
        gemmule.cpu()
asking = threading.Thread(target=ask)
asking.start()
print(sum(not np.array_equal(model.logits(ids), want) for _ in range(100)))
done.set()
asking.join()
"""


def test_asking_for_the_processor_changes_nothing():
    last = _core.testing.targets()[-1]  # on x86-64 without fused multiply-add: other bits than the best
    child = subprocess.run(
        [sys.executable, "-c", TARGETS, read_case("dense").folder],
        env={**os.environ, "GEMMULE_TARGET": last},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert child.stdout == "0\n"
