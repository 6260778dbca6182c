"""The loop of sequences that run together: whoever comes and goes, each gets what it gets alone."""

import sys
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gemmule
from fakes import TOKENIZER, FakeBatch, fake_model
from gemmule.generation.batch import Together
from golden_cases import FIXTURES


class Asked:
    """A request, and what it was told."""

    def __init__(self, begin, joins=0, leaves=None):
        self.begin, self.joins, self.leaves = begin, joins, leaves
        self.open = True
        self.pieces, self.result, self.error = [], None, None

    @property
    def tokens(self):
        return [piece.token for piece in self.pieces]

    def wanted(self):
        return self.open

    def said(self, pieces):
        assert self.open
        self.pieces += pieces

    def ended(self, result):
        assert self.result is self.error is None
        self.result = result

    def failed(self, error):
        assert self.result is self.error is None
        self.error = error


def asked_of(model, prompt, joins=0, leaves=None, **options):
    return Asked(model._begins(prompt, options)[0], joins, leaves)


def run(model, requests, **options):
    """Until nothing is left: requests come and go before the turns that they name."""
    waiting, turn = deque(), 0
    together = Together(model._new_batch(), lambda: waiting.popleft() if waiting else None, **options)
    last = max((each.joins for each in requests), default=0)
    busy = True
    while busy or turn <= last:
        for each in requests:
            if each.joins == turn:
                waiting.append(each)
            if each.leaves == turn:
                each.open = False
        busy = together.turn()
        turn += 1
        assert turn < 10_000
    return turn


# Each as alone


REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.lists(st.integers(0, 255), min_size=1, max_size=150),
            "joins": st.integers(0, 25),
            "leaves": st.none() | st.integers(0, 40),
            "max_tokens": st.integers(1, 25),
            "temperature": st.sampled_from([0, 1.2]),
            "seed": st.integers(0, 2**64 - 1),
        }
    ),
    max_size=8,
)


@settings(database=None, deadline=None, max_examples=40)
@given(
    requests=REQUESTS,
    most=st.integers(1, 4),
    prompt_tokens=st.sampled_from([1, 7, 64, sys.maxsize]),
    prefix_cache=st.sampled_from([0, 1 << 20]),
)
def test_any_coming_and_going(requests, most, prompt_tokens, prefix_cache):
    model = gemmule.load(FIXTURES / "mobile", threads=2, context=160, prefix_cache=prefix_cache)
    plain = gemmule.load(FIXTURES / "mobile", threads=2, context=160, prefix_cache=0)
    asked = [asked_of(model, ignore_eos=True, logprobs=True, **each) for each in requests]
    run(model, asked, most=most, prompt_tokens=prompt_tokens)
    for each, request in zip(asked, requests, strict=True):
        options = {name: request[name] for name in ("max_tokens", "temperature", "seed")}
        want = plain.generate(request["prompt"], ignore_eos=True, logprobs=True, **options)
        assert each.error is None
        if each.open or each.result is not None:
            assert (each.result.tokens, each.result.logprobs) == (want.tokens, want.logprobs)
            assert (each.tokens, each.result.finish_reason) == (want.tokens, want.finish_reason)
        else:
            assert each.tokens == want.tokens[: len(each.tokens)]


# Bounds


def test_no_more_than_the_bound_run_together():
    model = fake_model(TOKENIZER, lambda ids: 299)
    asked = [asked_of(model, [2, 5 + i], max_tokens=4 + i) for i in range(5)]
    run(model, asked, most=2)
    assert max(model._core.steps) == 2
    first_reads = [ids for ids in model._core.prefilled if len(ids) == 2]
    assert first_reads == [[2, 5], [2, 6], [2, 7], [2, 8], [2, 9]]  # in their order
    assert [len(each.result.tokens) for each in asked] == [4, 5, 6, 7, 8]


def test_prompts_are_read_between_steps():
    """Between two tokens of a sequence at most 64 of a long prompt are read, or some short prompts."""
    model = fake_model(TOKENIZER, lambda ids: 299)
    long, short = ([2] * 200, [3])
    asked = [
        asked_of(model, [5, 5], max_tokens=40, temperature=0),
        asked_of(model, long, joins=1, max_tokens=2, temperature=0),
    ]
    asked += [asked_of(model, short, joins=6, max_tokens=2, temperature=0) for _ in range(20)]
    run(model, asked, prompt_tokens=64)
    reads = [len(ids) for ids in model._core.prefilled]
    assert [reads[i : i + 2] for i, count in enumerate(reads) if count == 64] == [[64, 1]] * 3
    begun = [i for i, ids in enumerate(model._core.prefilled) if ids == short]
    between = np.split(begun, np.flatnonzero(np.diff(begun) > 1) + 1)
    assert [len(each) for each in between] == [8, 8, 4]  # each takes as long as a pass over eight tokens
    assert model._core.read == [[2] * 64] * 3  # the head is for a prompt's end
    assert all(each.result is not None for each in asked)


def test_who_has_gone_is_not_computed():
    model = fake_model(TOKENIZER, lambda ids: 299)
    going = asked_of(model, [2, 5], leaves=3, max_tokens=100)
    reading = asked_of(model, [3] * 250, leaves=2, max_tokens=1)
    waiting = asked_of(model, [4] * 10, joins=1, leaves=1)
    run(model, [going, reading, waiting], prompt_tokens=64)
    assert len(going.pieces) == 4  # the prompt's, and one of each turn
    assert [ids for ids in model._core.prefilled if ids[0] == 3] == [[3] * 64] * 2
    assert not any(ids[0] == 4 for ids in model._core.prefilled)
    assert going.result is reading.result is waiting.result is None


# What fails alone


def raises(error, at):
    """A processor that raises behind so many ids."""

    def processor(ids, logits):
        if len(ids) == at:
            raise error

    return processor


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), StopIteration(), MemoryError()], ids=repr)
@pytest.mark.parametrize("at", [2, 3, 5])
def test_a_callback_that_raises_ends_its_own(error, at):
    model = fake_model(TOKENIZER, lambda ids: 299)
    others = [asked_of(model, [2, 5], max_tokens=9, temperature=0) for _ in range(2)]
    bad = asked_of(model, [2, 6], max_tokens=9, logits_processors=[raises(error, at)])
    run(model, [others[0], bad, others[1]])
    assert bad.error is error
    assert len(bad.pieces) == at - 2
    assert [each.result.tokens for each in others] == [[299] * 9] * 2


@pytest.mark.parametrize("at", [2, 4])
def test_no_token_to_choose_from_ends_its_own(at):
    def forbids_all(ids, logits):
        if len(ids) >= at:
            logits[:] = -np.inf

    model = fake_model(TOKENIZER, lambda ids: 299)
    plain = model.generate([2, 5], max_tokens=9, seed=1, temperature=1.0)
    other = asked_of(model, [2, 5], max_tokens=9, seed=1, temperature=1.0)
    bad = asked_of(model, [2, 6], logits_processors=[forbids_all])
    run(model, [other, bad])
    assert isinstance(bad.error, gemmule.ArgumentError)
    assert "no token" in str(bad.error) or "-inf" in str(bad.error)
    assert other.result.tokens == plain.tokens


def test_a_step_that_fails_ends_whose_fault_it_is(monkeypatch):
    """As where there is no memory for one's cache."""
    step = FakeBatch.step

    def no_room(self, decoders, ids):
        if any(decoder.ids[:2] == [2, 6] and decoder.length == 4 for decoder in decoders):
            raise gemmule.ResourceError("no memory")
        return step(self, decoders, ids)

    monkeypatch.setattr(FakeBatch, "step", no_room)
    model = fake_model(TOKENIZER, lambda ids: 299)
    asked = [asked_of(model, [2, place], max_tokens=9) for place in (5, 6, 7)]
    run(model, asked)
    assert [len(each.pieces) for each in asked] == [9, 3, 9]
    assert isinstance(asked[1].error, gemmule.ResourceError)


def test_a_beginning_that_fails():
    model = fake_model(TOKENIZER, lambda ids: 299)

    def begin():
        raise gemmule.ResourceError("no memory")

    bad, good = Asked(begin), asked_of(model, [2, 5], max_tokens=3, temperature=0)
    run(model, [bad, good])
    assert isinstance(bad.error, gemmule.ResourceError)
    assert good.result.tokens == [299] * 3


def test_the_end_of_them_all():
    model = fake_model(TOKENIZER, lambda ids: 299)
    asked = [asked_of(model, [2, 5]), asked_of(model, [2] * 100)]
    waiting = deque(asked)
    together = Together(model._new_batch(), lambda: waiting.popleft() if waiting else None, prompt_tokens=64)
    together.turn()
    error = MemoryError()
    together.end(error)
    assert [each.error for each in asked] == [error] * 2
    assert not together.turn()
