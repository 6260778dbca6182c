"""A decoder's cache: forks share it without a trace, and its states come back from bytes, bit for bit."""

import numpy as np
import pytest

import gemmule
from chat_models import KINDS
from gemmule import _core
from golden_cases import read_case

ENCODINGS = {"float32": {"f32"}, "bf16": {"bf16"}, "static": {"c8", "c4"}}


@pytest.fixture(params=KINDS, ids=["f32", "bf16", "static"], scope="module")
def model(request):
    name, kv = request.param
    return gemmule.load(read_case(name).folder, kv=kv, threads=1)


def ids_of(count, seed=0):
    return np.random.default_rng(seed).integers(3, 600, count, dtype=np.int32)


def decoder_behind(model, ids):
    decoder = model._new_decoder()
    if len(ids):
        decoder.prefill(ids)
    return decoder


def states_of(decoder):
    return [decoder.export_state(i) for i in range(len(decoder.extents(decoder.length)))]


# Around blocks of 64 positions and a window of 16; 150 and more go round the ring of sliding layers.
LENGTHS = [1, 15, 16, 17, 63, 64, 65, 127, 150, 250, 400]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_fork_goes_on_alone(model, length):
    ids = ids_of(length)
    decoder = decoder_behind(model, ids)
    forks = [decoder.fork() for _ in range(3)]
    ends = [ids_of(200, seed) for seed in (1, 2, 3)]
    for end in range(0, 200, 50):  # side by side, so that each would overwrite what the others need
        for each, more in zip([decoder, *forks[:2]], ends, strict=True):
            got = each.prefill(more[end : end + 50])
            want = decoder_behind(model, np.concatenate([ids, more[: end + 50]])).prefill(ids[:1])
            assert np.array_equal(each.fork().prefill(ids[:1]), want)
            assert got.shape == want.shape
    assert np.array_equal(forks[2].prefill(ids[:1]), decoder_behind(model, ids).prefill(ids[:1]))
    assert [each.length for each in [decoder, *forks]] == [length + 200] * 3 + [length + 1]


def test_forks_share_their_blocks(model):
    decoder = decoder_behind(model, ids_of(300))
    forks = [decoder.fork() for _ in range(5)]
    alone = decoder.cache_bytes
    assert _core.Decoder.shared_cache_bytes([decoder, *forks]) == alone
    forks[0].prefill(ids_of(1))
    block_bytes = sum(_core.KV_BLOCK_TOKENS * each["bytes"] for each in decoder.extents(1))  # one of each layer
    assert _core.Decoder.shared_cache_bytes([decoder, *forks]) == alone + block_bytes
    assert _core.Decoder.shared_cache_bytes([]) == 0


def test_a_fork_rewinds_alone(model):
    ids = ids_of(150)
    decoder = decoder_behind(model, ids)
    fork = decoder.fork()
    assert fork.rewind(140)
    assert decoder.length == 150
    got = fork.prefill(ids[:30])
    assert np.array_equal(got, decoder_behind(model, np.concatenate([ids[:140], ids[:30]])[:-1]).prefill(ids[29:30]))
    assert np.array_equal(decoder.prefill(ids[:1]), decoder_behind(model, ids).prefill(ids[:1]))


@pytest.mark.parametrize("length", LENGTHS)
def test_states_come_back(model, length):
    ids = ids_of(length)
    decoder = decoder_behind(model, ids)
    states = states_of(decoder)
    again = _core.Decoder.from_states(model._core, length, states)
    assert again.length == length
    assert all(np.array_equal(one, other) for one, other in zip(states, states_of(again), strict=True))
    more = ids_of(200, 1)
    for begin in range(0, 200, 40):
        got, want = (each.prefill(more[begin : begin + 40]) for each in (again, decoder))
        assert np.array_equal(got, want)
    # What is not there is not looked at.
    early = _core.Decoder.from_states(model._core, length, states)
    if length > 20:
        assert not early.rewind(length - 5)
        assert early.length == length
    assert early.rewind(0)
    assert np.array_equal(early.prefill(more), decoder_behind(model, []).prefill(more))
    assert early.rewind(199)


@pytest.mark.parametrize("length", [1, 16, 40])
def test_extents_say_what_is_there(model, length):
    config = model.info["config"]
    extents = model._new_decoder().extents(length)
    assert [each["layer"] for each in extents] == [
        layer for layer, facts in enumerate(config["layers"]) if facts["kv_owner"] == layer
    ]
    assert {each["encoding"] for each in extents} == ENCODINGS[model.info["kv"]]
    bits = {"f32": 32, "bf16": 16, "c8": 8, "c4": 4}
    for each in extents:
        facts = config["layers"][each["layer"]]
        sliding = config["layer_types"][each["layer"]] == "sliding_attention"
        assert each["first"] == (max(0, length - config["sliding_window"] + 1) if sliding else 0)
        assert each["head_dim"] == facts["head_dim"]
        assert each["num_key_value_heads"] == facts["num_key_value_heads"]
        elements = (length - each["first"]) * 2 * facts["num_key_value_heads"] * facts["head_dim"]
        assert each["bytes"] == elements * bits[each["encoding"]] // 8


def test_bytes_are_the_elements():
    """Of float32: what one position's state holds does not depend on where it lies in its block."""
    model = gemmule.load(read_case("e2b").folder, kv="float32", threads=1)
    ids = ids_of(100)
    decoder = decoder_behind(model, ids)
    long = states_of(decoder)
    short = states_of(decoder_behind(model, ids[:90]))
    for extent, one, other in zip(decoder.extents(100), long, short, strict=True):
        if extent["first"] == 0:
            assert np.array_equal(one[: len(other)], other)
    assert all(np.isfinite(each.view("<f4")).all() for each in long)


def test_refuses_other_states(model):
    states = states_of(decoder_behind(model, ids_of(40)))
    make = _core.Decoder.from_states
    with pytest.raises(gemmule.FormatError, match=r"layer 0.*bytes"):
        make(model._core, 40, [states[0][:-1], *states[1:]])
    with pytest.raises(gemmule.FormatError, match="bytes"):
        make(model._core, 41, states)
    for wrong in ([], states[:-1], [*states, states[0]]):
        with pytest.raises(gemmule.FormatError, match="states"):
            make(model._core, 40, wrong)
    with pytest.raises(gemmule.ContextError, match="context"):
        make(model._core, model.context + 1, states)
    with pytest.raises(gemmule.ArgumentError):
        decoder_behind(model, ids_of(3)).export_state(len(states))
    if model.info["kv"] != "static":
        for value in (np.nan, np.inf, -np.inf):
            bad = states[1].copy()
            if model.info["kv"] == "float32":
                bad.view("<f4")[-1] = value
            else:
                bad.view("<u2")[-1] = np.float32(value).view("<u4") >> 16
            with pytest.raises(gemmule.FormatError, match="not finite"):
                make(model._core, 40, [states[0], bad, *states[2:]])


def test_no_states_are_an_empty_decoder(model):
    decoder = model._new_decoder()
    empty = _core.Decoder.from_states(model._core, 0, states_of(decoder))
    assert empty.length == 0
    assert np.array_equal(empty.prefill(ids_of(9)), decoder.prefill(ids_of(9)))
