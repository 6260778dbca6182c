"""Results depend neither on the number of threads nor on the instruction set, as long as it fuses multiply and add."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gemmule
from golden_cases import FIXTURES, read_case
from targets import fused_targets

testing = gemmule._core.testing
# Checkpoint and cache: a float checkpoint has no scales for a static cache.
KINDS = [("e2b", "float32"), ("e2b", "bf16"), ("mobile", "float32"), ("mobile", "static")]


@pytest.mark.parametrize(("name", "kv"), KINDS)
def test_same_bits_for_any_number_of_threads(name, kv):
    case = read_case(name)
    logits, tokens = [], []
    for threads in (1, 2, 4):
        model = gemmule.load(case.folder, kv=kv, threads=threads)
        assert model.threads == threads
        logits.append(model.logits(case.ids))
        tokens.append(model.generate(case.ids, temperature=1.0, seed=3, ignore_eos=True, max_tokens=16).tokens)
    assert np.array_equal(logits[0], logits[1])
    assert np.array_equal(logits[0], logits[2])
    assert tokens[0] == tokens[1] == tokens[2]


@pytest.mark.parametrize(("name", "kv"), KINDS)
def test_same_bits_on_every_instruction_set(name, kv):
    """All that have fused multiply-add: the whole model, not only its kernels."""
    case = read_case(name)
    model = gemmule.load(case.folder, kv=kv)
    want = model.logits(case.ids)
    try:
        for target in fused_targets():
            testing.set_target(target)
            assert np.array_equal(model.logits(case.ids), want), target
    finally:
        testing.set_target(None)


@pytest.mark.parametrize(
    "checkpoint",
    ["moe", "ct_w4a16", *(f"gguf_e2b/model-{kind}.gguf" for kind in ("Q4_0", "Q8_0"))]
    + [f"gguf_kquant/model-{kind}.gguf" for kind in ("Q4_K_M", "Q5_K_M")],
)
def test_so_have_experts_and_blocks(checkpoint):
    model = gemmule.load(FIXTURES / checkpoint)
    ids = np.arange(3, 60, dtype=np.int32)
    want = model.logits(ids)
    try:
        for target in fused_targets():
            testing.set_target(target)
            assert np.array_equal(model.logits(ids), want), target
    finally:
        testing.set_target(None)


def test_conversations_side_by_side():
    """One at a time has the model's workers; what comes out is the same."""
    case = read_case("e2b")
    model = gemmule.load(case.folder, threads=3, kv="float32")
    alone = [model.logits(case.ids[: 20 + i]) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: [model.logits(case.ids[: 20 + i]) for _ in range(5)], range(8)))
    assert all(np.array_equal(got, alone[i]) for i, several in enumerate(together) for got in several)
