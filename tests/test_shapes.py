"""Made checkpoints of many shapes: the compiled model against the numpy reference, and against itself in pieces."""

import numpy as np
import pytest

import gemmule
from checkpoints import E4B_MOBILE, FULL, SLIDING, make_checkpoint
from gemmule.reference import Reference

Decoder, testing = gemmule._core.Decoder, gemmule._core.testing

NO_PER_LAYER_INPUT = {"hidden_size_per_layer_input": 0}
NO_SHARING = {"num_kv_shared_layers": 0}

FLOAT_SHAPES = {
    "plain": {},
    "f32, widths of 4": {
        "dtype": "F32",
        "hidden_size": 36,
        "num_attention_heads": 3,
        "head_dim": 12,
        "global_head_dim": 20,
        "intermediate_size": 44,
        "hidden_size_per_layer_input": 12,
        "vocab_size": 101,
    },
    "f16, groups of 4, window 1": {
        "dtype": "F16",
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "global_head_dim": 24,
        "sliding_window": 1,
    },
    "odd multiples of 32": {
        "hidden_size": 96,
        "intermediate_size": 160,
        "head_dim": 32,
        "global_head_dim": 96,
        "hidden_size_per_layer_input": 32,
    },
    "k_eq_v, own global heads": dict(
        attention_k_eq_v=True, num_key_value_heads=4, num_global_key_value_heads=2, **NO_PER_LAYER_INPUT, **NO_SHARING
    ),
    "k_eq_v, heads not given": dict(
        attention_k_eq_v=True, num_key_value_heads=2, per_layer_config=True, **NO_PER_LAYER_INPUT, **NO_SHARING
    ),
    "k_eq_v with sharing": {"attention_k_eq_v": True, "num_key_value_heads": 2, "num_global_key_value_heads": 1},
    "global heads without k_eq_v are ignored": {"num_key_value_heads": 2, "num_global_key_value_heads": 4},
    "one layer": dict(layer_types=[FULL], **NO_SHARING),
    "one layer of each type": dict(layer_types=[SLIDING, FULL], **NO_SHARING),
    "owners in another order": {
        "layer_types": [FULL, SLIDING, SLIDING, FULL, SLIDING, FULL, SLIDING, FULL],
        "num_kv_shared_layers": 5,
        "use_double_wide_mlp": False,
        "sliding_window": 5,
    },
    "text only, three files, leftovers, towers, odd offsets": {
        "text_only": True,
        "per_layer_config": True,
        "shards": 3,
        "leftovers": True,
        "towers": True,
        "header_padding": 1,
    },
    "untied head, no softcap, long window": {
        "tie_word_embeddings": False,
        "final_logit_softcapping": None,
        "sliding_window": 500,
        "rms_norm_eps": 1e-5,
    },
    "experts": dict(
        seed=13,  # with 11 and a bf16 cache, a token's second and third expert are a relative 4e-6 apart
        enable_moe_block=True,
        num_experts=8,
        top_k_experts=2,
        moe_intermediate_size=48,
        attention_k_eq_v=True,
        num_key_value_heads=2,
        **NO_PER_LAYER_INPUT,
        **NO_SHARING,
    ),
    "every expert sees every token": dict(
        enable_moe_block=True, num_experts=3, top_k_experts=3, moe_intermediate_size=20, dtype="F32", **NO_SHARING
    ),
    "other rope": {
        "rope_parameters": {
            SLIDING: {"rope_type": "default", "rope_theta": 500.0},
            FULL: {"rope_type": "proportional", "rope_theta": 7e3, "partial_rotary_factor": 0.55, "factor": 4.0},
        }
    },
}

MOBILE_SHAPES = {
    "plain": {"tie_word_embeddings": False},
    "as E4B": E4B_MOBILE,
    "tied, 2-bit per-layer embedding with one scale a row": {
        "bits": {r"embed_tokens_per_layer$": 2, r"mlp\.": 4},
        "per_layer_scale_columns": 1,
        "seed": 14,  # with 12 a key lies at a tie, and all later positions with it, in float64 too
    },
    "odd multiples of 32": {
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_attention_heads": 3,
        "head_dim": 32,
        "global_head_dim": 96,
        "tie_word_embeddings": False,
    },
    "widths of 4": {
        "hidden_size": 36,
        "num_attention_heads": 3,
        "head_dim": 12,
        "global_head_dim": 20,
        "intermediate_size": 44,
        "hidden_size_per_layer_input": 12,
        "vocab_size": 101,
    },
    "three files, leftovers, towers, odd offsets": {
        "shards": 3,
        "leftovers": True,
        "towers": True,
        "header_padding": 3,
    },
    "scales of the head, zeros among the others": {
        "head_scales": True,
        "zero_scales": True,
        "tie_word_embeddings": False,
    },
    "two heads a group, no sharing": dict(num_key_value_heads=2, sliding_window=3, **NO_SHARING),
    "8-bit everything": {"bits": {"": 8}, "dtype": "F32", "tie_word_embeddings": False},
    "2-bit everything": {"bits": {"": 2}, "dtype": "F16"},
    "k_eq_v without per-layer inputs": dict(
        attention_k_eq_v=True, num_key_value_heads=2, num_global_key_value_heads=1, **NO_PER_LAYER_INPUT, **NO_SHARING
    ),
}


LENGTH = 230  # tokens of a long prompt


def prompt(reference: Reference, length: int, seed: int = 0) -> np.ndarray:
    """(length,) ids, the first one BOS."""
    ids = np.random.default_rng(seed).integers(3, reference.config.vocab_size, length)
    return np.concatenate([[2], ids[1:]]).astype(np.int32)


@pytest.fixture(scope="module", params=FLOAT_SHAPES)
def float_folder(request, tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("float"), **{"seed": 11} | FLOAT_SHAPES[request.param])


@pytest.fixture(scope="module", params=MOBILE_SHAPES)
def mobile_folder(request, tmp_path_factory):
    return make_checkpoint(
        tmp_path_factory.mktemp("mobile"), mobile=True, **{"seed": 12} | MOBILE_SHAPES[request.param]
    )


def test_float_logits(float_folder):
    """Longer than a chunk of prefill, and than the ring that keeps a sliding layer's window."""
    reference = Reference(float_folder)
    ids = prompt(reference, LENGTH)
    got = gemmule.load(float_folder, kv="float32").logits(ids)
    assert np.abs(got - reference.logits(ids)).max() <= 2e-3


def test_bf16_cache(float_folder):
    """Keys and values near a tie can be rounded either way, which moves a logit by more than sums do."""
    reference = Reference(float_folder, kv="bf16")
    ids = prompt(reference, 40)
    error = np.abs(gemmule.load(float_folder, kv="bf16").logits(ids) - reference.logits(ids))
    rounding = np.abs(reference.logits(ids) - Reference(float_folder).logits(ids))
    assert error.max() <= 5e-2
    assert error.mean() <= 0.5 * rounding.mean()


def test_pieces_equal_the_whole(float_folder):
    assert_pieces_equal_the_whole(float_folder, "float32")


@pytest.mark.parametrize("kv", ["float32", "static"])
def test_mobile_pieces_equal_the_whole(mobile_folder, kv):
    assert_pieces_equal_the_whole(mobile_folder, kv)


def assert_pieces_equal_the_whole(folder, kv):
    """Any way to cut a prompt gives the same bits, down to one token at a time."""
    model = gemmule.load(folder, kv=kv)
    ids = prompt(Reference(folder), LENGTH)
    whole = Decoder(model._core).logits(ids)
    for sizes in ([1] * LENGTH, [7, 1, 16, 3, 70, 133], [LENGTH - 1, 1]):
        decoder = Decoder(model._core)
        pieces = np.split(ids, np.cumsum(sizes)[:-1])
        assert np.array_equal(np.concatenate([decoder.logits(piece) for piece in pieces]), whole), sizes
    decoder = Decoder(model._core)
    decoder.prefill(ids[:21])
    assert np.array_equal(decoder.prefill(ids[21:]), whole[-1])
    assert decoder.length == LENGTH


@pytest.mark.parametrize("activations", ["auto", "float32"])
def test_mobile_layers(mobile_folder, activations):
    """Each layer on the reference's input: a rounding that falls the other way stays inside its layer."""
    reference = Reference(mobile_folder, np.float32)
    ids = prompt(reference, 40)
    states = np.stack(reference.hidden(ids))
    core = gemmule.load(mobile_folder, kv="float32", activations=activations)._core
    got = testing.layer_outputs(core, ids, states[:-1])
    for i in range(len(got)):
        assert (np.abs(got[i] - states[i + 1]) <= 1e-3).mean() >= 0.95, f"layer {i}"


@pytest.mark.parametrize("kv", ["float32", "static"])
def test_mobile_short_prompts(mobile_folder, kv):
    """Few roundings, so few that fall the other way: most prompts agree closely."""
    reference = Reference(mobile_folder, np.float32, kv=kv)
    model = gemmule.load(mobile_folder, kv=kv)
    prompts = [prompt(reference, 8, seed) for seed in range(16)]
    errors = [np.abs(model.logits(ids)[-1] - reference.logits(ids)[-1]).max() for ids in prompts]
    assert sum(error <= 5e-3 for error in errors) >= 10


def test_leftovers_and_towers_are_named(tmp_path):
    folder = make_checkpoint(tmp_path, leftovers=True, towers=True)
    info = gemmule.load(folder)._core.info
    assert len(info["leftover_tensors"]) == 6  # k_proj, v_proj and k_norm of two shared layers
    assert all(".layers.2." in name or ".layers.3." in name for name in info["leftover_tensors"])
    assert len(info["skipped_tensors"]) == 3
    assert info["unknown_tensors"] == []


def test_rewind_and_go_on(tmp_path):
    """Forgetting tokens and reading others gives what a fresh decoder gives."""
    folder = make_checkpoint(tmp_path, seed=5, sliding_window=30)
    core = gemmule.load(folder)._core
    ids = prompt(Reference(folder), 24)
    decoder = Decoder(core)
    decoder.prefill(ids)
    assert decoder.rewind(10)
    assert decoder.length == 10
    assert np.array_equal(decoder.logits(ids[5:20]), Decoder(core).logits(np.concatenate([ids[:10], ids[5:20]]))[10:])


def test_rewind_refuses_what_a_window_has_lost(tmp_path):
    core = gemmule.load(make_checkpoint(tmp_path, seed=5, sliding_window=4))._core
    decoder = Decoder(core)
    decoder.prefill(np.full(200, 7, np.int32))
    assert not decoder.rewind(50)
    assert decoder.length == 200


def test_only_full_layers_keep_growing(tmp_path):
    """A sliding layer's keys and values stop at its window, rounded up."""
    folder = make_checkpoint(tmp_path, layer_types=[SLIDING, SLIDING, SLIDING, FULL], num_kv_shared_layers=0)
    decoder = Decoder(gemmule.load(folder, kv="float32")._core)
    decoder.prefill(np.full(200, 7, np.int32))
    before = decoder.cache_bytes
    decoder.prefill(np.full(300, 7, np.int32))
    full_layer_bytes = 2 * 64 * 4  # a token: keys and values of one head of 64
    assert 200 * full_layer_bytes <= decoder.cache_bytes - before <= 400 * full_layer_bytes
