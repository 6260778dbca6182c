"""One step of several sequences: the bits of each alone, and all or none of them advance."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import gemmule
from gemmule import _core
from golden_cases import FIXTURES
from targets import fused_targets

# Checkpoint and cache: every kind of product, experts, shared keys, sliding windows that have been left behind.
KINDS = [
    ("e2b", "float32"),
    ("moe", "bf16"),
    ("mobile", "static"),
    ("gguf_e2b/model-Q4_0.gguf", "float32"),
    ("gguf_moe/model-Q4_0.gguf", "float32"),
]
LENGTHS = (40, 1, 96, 17, 64, 65, 3, 80)  # tokens that the sequences have before the step; windows have 16


def ids_of(model, place, count):
    return np.random.default_rng(place).integers(0, model.vocab_size, count).astype(np.int32)


def sequences(model, count, lengths=LENGTHS):
    """Decoders that have read something each."""
    decoders = [_core.Decoder(model._core) for _ in range(count)]
    for place, decoder in enumerate(decoders):
        decoder.prefill(ids_of(model, place, lengths[place % len(lengths)]))
    return decoders


def alone(model, count, steps):
    """(steps, count, V): each sequence decoded by itself."""
    rows = []
    for place, decoder in enumerate(sequences(model, count)):
        tokens = ids_of(model, 100 + place, steps)
        rows.append([decoder.prefill(tokens[step : step + 1]) for step in range(steps)])
    return np.array(rows).swapaxes(0, 1)


def together(model, count, steps):
    batch = _core.Batch(model._core)
    decoders = sequences(model, count)
    tokens = np.stack([ids_of(model, 100 + place, steps) for place in range(count)])
    return np.stack([batch.step(decoders, np.ascontiguousarray(tokens[:, step])) for step in range(steps)])


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model():
    return gemmule.load(FIXTURES / "mobile", threads=2)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 17, 64])
def test_bits_are_those_of_each_alone(kind, count):
    name, kv = kind
    model = gemmule.load(FIXTURES / name, kv=kv, threads=3)
    steps = 18 if count == 8 else 2  # far enough for every window to move on
    got, want = together(model, count, steps), alone(model, count, steps)
    assert got.shape == (steps, count, model.vocab_size)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_bits_for_any_number_of_threads(kind, threads):
    name, kv = kind
    want = alone(gemmule.load(FIXTURES / name, kv=kv, threads=1), 5, 2)
    assert np.array_equal(together(gemmule.load(FIXTURES / name, kv=kv, threads=threads), 5, 2), want)


def test_bits_on_every_instruction_set(kind):
    """Also on the baseline, whose own bits differ."""
    name, kv = kind
    model = gemmule.load(FIXTURES / name, kv=kv, threads=2)
    try:
        for target in _core.testing.targets():
            _core.testing.set_target(target)
            got = together(model, 6, 2)
            assert np.array_equal(got, alone(model, 6, 2)), target
            if target == fused_targets()[0]:
                first = got
            if target in fused_targets():
                assert np.array_equal(got, first), target
    finally:
        _core.testing.set_target(None)


def test_a_long_sequence_among_short_ones():
    """Its attention is cut into spans, theirs are not."""
    model = gemmule.load("fairy", threads=4)
    decoders = [sequences(model, 9, lengths=(1000, 2, 3, 2, 3, 2, 3, 2, 3)) for _ in range(2)]
    ids = ids_of(model, 7, 9)
    got = _core.Batch(model._core).step(decoders[0], ids)
    want = [decoder.prefill(ids[i : i + 1]) for i, decoder in enumerate(decoders[1])]
    assert np.array_equal(got, want)


def test_sequences_come_and_go(model):
    """What a step computes does not depend on what stepped together before."""
    batch, (a, b, c) = _core.Batch(model._core), sequences(model, 3)
    ids = ids_of(model, 9, 3)
    batch.step([a, b], ids[:2])
    batch.step([c, a], ids[:2])
    got = batch.step([b, c, a], ids)
    want = []
    for decoder, tokens in zip(sequences(model, 3), ([ids[0], ids[1], ids[2]], ids[1::-1], ids[:2]), strict=True):
        want.append(decoder.prefill(np.array(tokens, np.int32)))
    assert [decoder.length for decoder in (a, b, c)] == [43, 3, 98]
    assert np.array_equal(got, [want[1], want[2], want[0]])


def test_a_decoder_goes_on_by_itself(model):
    batch, (a, b) = _core.Batch(model._core), sequences(model, 2)
    batch.step([a, b], np.array([5, 6], np.int32))
    want = sequences(model, 1)[0].prefill(np.array([5, 7], np.int32))
    assert np.array_equal(a.prefill(np.array([7], np.int32)), want)


def test_prefill_in_the_batch_s_memory(model):
    batch, ids = _core.Batch(model._core), ids_of(model, 3, 150)
    decoder = _core.Decoder(model._core)
    got = [batch.prefill(decoder, ids[:70]), batch.prefill(decoder, ids[70:])]
    other = _core.Decoder(model._core)
    assert np.array_equal(got, [other.prefill(ids[:70]), other.prefill(ids[70:])])
    assert decoder.length == 150


def test_what_is_read_without_logits(kind):
    """By itself or in a batch, in parts of any size: what comes behind it has the bits of one prefill."""
    model = gemmule.load(FIXTURES / kind[0], kv=kind[1])
    batch, ids = _core.Batch(model._core), ids_of(model, 4, 150)
    one, parts, shared = (_core.Decoder(model._core) for _ in range(3))
    want = one.prefill(ids)
    assert parts.read(ids[:1]) is None
    parts.read(ids[1:100])
    parts.read(ids[100:149])
    assert np.array_equal(parts.prefill(ids[149:]), want)
    assert batch.read(shared, ids[:97]) is None
    assert shared.length == 97
    assert np.array_equal(batch.prefill(shared, ids[97:]), want)


def test_reading_refuses_what_prefill_does(model):
    decoder = _core.Decoder(model._core)
    for ids in ([], [-1], [10**6]):
        with pytest.raises(gemmule.ArgumentError):
            decoder.read(np.array(ids, np.int32))
    with pytest.raises(gemmule.ContextError):
        decoder.read(np.zeros(model.context + 1, np.int32))
    assert decoder.length == 0


def lengths_of(decoders):
    return [decoder.length for decoder in decoders]


@pytest.mark.parametrize(
    ("order", "ids", "said"),
    [
        ([], [], "0 sequences"),
        ([0, 1], [5], "2 sequences and 1 token ids"),
        ([0, 1, 0], [5, 6, 7], "sequence 2 of a step is in it twice"),
        ([0, 1], [5, -1], "sequence 1 of a step: token id -1"),
        ([0, 1], [5, 10**6], "sequence 1 of a step: token id 1000000"),
        ([0] * 65, [5] * 65, "want 1 to 64 sequences"),
    ],
)
def test_refuses(model, order, ids, said):
    decoders = sequences(model, 2)
    before = lengths_of(decoders)
    with pytest.raises(gemmule.ArgumentError, match=said):
        _core.Batch(model._core).step([decoders[i] for i in order], np.array(ids, np.int32))
    assert lengths_of(decoders) == before


def test_refuses_a_sequence_of_another_model(model):
    (mine,), (other,) = sequences(model, 1), sequences(gemmule.load(FIXTURES / "mobile"), 1)
    batch = _core.Batch(model._core)
    with pytest.raises(gemmule.ArgumentError, match="of another model"):
        batch.step([mine, other], np.array([5, 6], np.int32))
    with pytest.raises(gemmule.ArgumentError, match="of another model"):
        batch.prefill(other, np.array([5], np.int32))
    assert lengths_of([mine, other]) == [40, 40]


def test_a_full_sequence_stops_the_step_before_it_begins():
    model = gemmule.load(FIXTURES / "mobile", context=40)
    batch, decoders = _core.Batch(model._core), sequences(model, 2, lengths=(39, 40))
    with pytest.raises(gemmule.ContextError, match="sequence 1 of a step: 1 tokens do not fit: the context holds 40"):
        batch.step(decoders, np.array([5, 6], np.int32))
    assert lengths_of(decoders) == [39, 40]
    got = batch.step(decoders[:1], np.array([5], np.int32))  # nobody is left in use
    assert np.array_equal(got[0], sequences(model, 1, lengths=(39,))[0].prefill(np.array([5], np.int32)))


def test_a_stopped_step_advances_nobody():
    """Steps that take some 50 ms each, and signals that come while they run."""
    script = (
        "import signal\n"
        "import numpy as np\n"
        "import gemmule\n"
        "from gemmule import _core\n"
        "def stop(number, frame): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, stop)\n"
        "model = gemmule.load('fairy', threads=1, activations='float32', kv='float32')\n"
        "ids = np.arange(5, 69, dtype=np.int32)\n"
        "batch, decoders = _core.Batch(model._core), [_core.Decoder(model._core) for _ in ids]\n"
        "for i, decoder in enumerate(decoders): batch.prefill(decoder, np.arange(1, 300 + i, dtype=np.int32))\n"
        "lengths = [decoder.length for decoder in decoders]\n"
        "_core.testing.set_target(_core.testing.targets()[-1])\n"
        "stopped = steps = 0\n"
        "while not stopped and steps < 100:\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.005)\n"
        "    try:\n"
        "        batch.step(decoders, ids)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        "    grown = {decoder.length - length for decoder, length in zip(decoders, lengths)}\n"
        "    assert grown in ({steps}, {steps + 1}), grown\n"
        "    stopped += grown == {steps}\n"
        "    steps = grown.pop()\n"
        "assert stopped, 'no step was stopped: none was long enough'\n"
        "for place in 0, 63:\n"  # what the stopped step has left in their caches is overwritten
        "    token = ids[place : place + 1]\n"
        "    again = _core.Decoder(model._core)\n"
        "    _core.testing.set_target(None)\n"
        "    again.prefill(np.arange(1, 300 + place, dtype=np.int32))\n"
        "    _core.testing.set_target(_core.testing.targets()[-1])\n"
        "    for _ in range(steps + 1): want = again.prefill(token)\n"
        "    assert np.array_equal(decoders[place].prefill(token), want)\n"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr


def test_one_thread_at_a_time(model):
    """Two threads with the same batch, or with the same sequence, get an error and no wrong numbers."""
    model = gemmule.load("fairy", threads=1)
    decoders = sequences(model, 2, lengths=(3, 3))
    batches = [_core.Batch(model._core), _core.Batch(model._core)]
    refused = []

    def work(batch):
        for _ in range(30):
            try:
                batch.step(decoders, np.array([5, 6], np.int32))
            except gemmule.ArgumentError as error:
                refused.append(str(error))

    for used in ([batches[0]] * 2, batches):
        before = lengths_of(decoders)
        refused.clear()
        threads = [threading.Thread(target=work, args=(batch,)) for batch in used]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lengths_of(decoders) == [length + 60 - len(refused) for length in before]
        assert all("in use by another call" in each for each in refused)


def samplers(count, **settings):
    usual = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.1}
    return [_core.Sampler(**{**usual, **settings}, seed=seed) for seed in range(count)]


def test_samples_are_those_of_each_sampler(model):
    logits = list(np.random.default_rng(1).standard_normal((7, 4096)).astype(np.float32))
    histories = [ids_of(model, place, place) for place in range(7)]
    batch, mine, others = _core.Batch(model._core), samplers(7), samplers(7)
    for _ in range(5):
        got = batch.sample(mine, logits, histories)
        assert got == [each.sample(*row) for each, *row in zip(others, logits, histories, strict=True)]


def test_a_sample_that_fails_is_an_error(model):
    batch, nothing = _core.Batch(model._core), np.array([], np.int32)
    broken = np.full(64, np.nan, np.float32)
    with pytest.raises(gemmule.ArgumentError, match="no largest finite value"):
        batch.sample(samplers(2), [np.zeros(64, np.float32), broken], [nothing] * 2)
    with pytest.raises(gemmule.ArgumentError, match="logits of 1"):
        batch.sample(samplers(2), [broken], [nothing] * 2)
    with pytest.raises(gemmule.ArgumentError, match="sampler 1 is there twice"):
        batch.sample(samplers(1) * 2, [broken] * 2, [nothing] * 2)
