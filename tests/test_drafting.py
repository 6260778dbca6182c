"""Generation with drafts: the text is that of plain generation, whatever is drafted."""

import random
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

import gemmule
from checkpoints import E4B_MOBILE, make_checkpoint
from drafter_folders import make_drafter
from gemmule.checkpoints import checkpoint, drafters
from gemmule.generation.drafting import Drafting, prompt_lookup
from gemmule.generation.generate import Generation, Usage, first_piece
from gemmule.generation.sampling import Sampling
from golden_cases import DRAFTER_FIXTURES, FIXTURES, read_case

_core = gemmule._core

KV = ["float32", "bf16", "static"]


class Lengths:
    """Stands for `DraftLength`: lengths that come again and again."""

    plain_seconds = None

    def __init__(self, *lengths):
        self.lengths, self.passes = lengths, 0

    def next(self):
        self.passes += 1
        return self.lengths[self.passes % len(self.lengths)]

    def observe(self, *_):
        pass


def drafting(propose, *lengths):
    result = Drafting(propose)
    result.length = Lengths(*lengths)
    return result


def half_right(said, prompt_length, vocab_size, seed=0):
    """Drafts what is known to come, each token wrong with probability 0.3."""
    source = random.Random(seed)

    def propose(run, count):
        known = said[len(run.ids) - prompt_length :][:count]
        return [token if source.random() < 0.7 else source.randrange(vocab_size) for token in known]

    return propose


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """A checkpoint with scales for the cache."""
    return make_checkpoint(tmp_path_factory.mktemp("mobile"), mobile=True, seed=3, **E4B_MOBILE)


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1, "seed": 5, "repetition_penalty": 1.1}])
def test_text_and_logits_are_the_plain_ones(mobile, monkeypatch, kv, options):
    """Through several turns of the sliding layers' rings: no rejected draft leaves a trace in the cache."""
    model = gemmule.load(mobile, kv=kv)
    prompt = np.random.default_rng(0).integers(3, 160, 21).tolist()
    options |= {"max_tokens": 300, "ignore_eos": True, "logprobs": True}
    plain = model.generate(prompt, **options)
    assert len(plain.tokens) == 300
    drafted = drafting(half_right(plain.tokens, len(prompt), 160), 0, 3, 15, 1, 7, 2)
    monkeypatch.setattr(model, "_new_drafting", lambda _: drafted)
    result = model.generate(prompt, **options)
    assert result.tokens == plain.tokens
    assert result.logprobs == plain.logprobs  # to the bit
    assert result.finish_reason == "length"
    usage = result.usage
    assert usage.completion_tokens == 300
    assert 0.2 * usage.drafted_tokens < usage.accepted_tokens < 0.8 * usage.drafted_tokens
    assert usage.accepted_tokens + drafted.length.passes + 1 == 300  # a pass gives one token more than is accepted


@pytest.mark.parametrize("name", DRAFTER_FIXTURES)
def test_fixture(name, monkeypatch):
    """With the drafter, at the length of the golden run, as many drafts are right as there."""
    case = read_case(name)
    model = gemmule.load(FIXTURES / "e2b", mtp=case.folder, kv="float32")
    new_drafting = model._new_drafting

    def fixed(sampling):
        result = new_drafting(sampling)
        result.length = Lengths(4)
        return result

    monkeypatch.setattr(model, "_new_drafting", fixed)
    result = model.generate(case.ids, temperature=0, ignore_eos=True, max_tokens=32)
    assert result.tokens == case.golden["plain_ids"].tolist()
    rounds = case.facts["accepted_per_round"]
    given = sum(rounds[:-1]) + len(rounds)  # before the last round, which is cut at max_tokens
    assert result.usage.accepted_tokens == sum(rounds[:-1]) + min(rounds[-1], 32 - given)


@pytest.mark.parametrize("kv", KV[:2])
def test_with_a_drafter_as_users_call_it(kv):
    case = read_case("mtp")
    plain = gemmule.load(FIXTURES / "e2b", kv=kv)
    model = gemmule.load(FIXTURES / "e2b", mtp=FIXTURES / "mtp", kv=kv)
    for options in ({"temperature": 0}, {"temperature": 0.7, "seed": 3}):
        options |= {"max_tokens": 100, "ignore_eos": True}
        want = plain.generate(case.ids, **options)
        result = model.generate(case.ids, **options)
        assert result.tokens == want.tokens
        assert result.usage.drafted_tokens > 0
        assert result.usage.speed_up > 0
        assert [piece.token for piece in model.stream(case.ids, **options)] == want.tokens
        assert model.generate(case.ids, draft=None, **options).usage.drafted_tokens == 0
        assert model.generate([case.ids], **options)[0].tokens == want.tokens
    assert (want.usage.drafted_tokens, want.usage.accepted_tokens, want.usage.speed_up) == (0, 0, None)


def test_the_last_of_several_is_drafted():
    """Once the others have ended; its decoder has stepped with them before."""
    case = read_case("mtp")
    plain = gemmule.load(FIXTURES / "e2b", context=90, prefix_cache=0)
    model = gemmule.load(FIXTURES / "e2b", context=90, prefix_cache=0, mtp=FIXTURES / "mtp")
    prompts = [list(range(3, 83)), case.ids[:6], list(range(9, 89))]  # the context ends two of them
    options = {"temperature": 0, "max_tokens": 60, "ignore_eos": True, "logprobs": True}
    results = model.generate(prompts, **options)
    for prompt, result in zip(prompts, results, strict=True):
        want = plain.generate(prompt, **options)
        assert (result.tokens, result.logprobs) == (want.tokens, want.logprobs)
    assert [result.usage.drafted_tokens > 0 for result in results] == [False, True, False]


def test_drafts_behind_a_step_of_several():
    """Each is drafted from its own hidden state."""
    model = gemmule.load(FIXTURES / "e2b", mtp=FIXTURES / "mtp")
    batch, drafter = _core.Batch(model._core), _core.Drafter(model._draft_model)
    prompts = [np.arange(3, 3 + length, dtype=np.int32) for length in (5, 40, 17)]
    together, alone = ([_core.Decoder(model._core) for _ in prompts] for _ in range(2))
    for prompt, one, other in zip(prompts, together, alone, strict=True):
        one.prefill(prompt)
        other.prefill(prompt)
        other.prefill(prompt[:1])
    batch.step(together, np.array([prompt[0] for prompt in prompts], np.int32))
    drafts = [drafter.draft(each, 7, 4) for each in together]
    assert drafts == [drafter.draft(each, 7, 4) for each in alone]
    assert len({tuple(each) for each in drafts}) > 1


# The drafter that comes with fairy

FAIRY_PROMPTS = ["Once upon a time", "The old witch looked at the boy and said,", "When winter came"]


def test_fairys_drafter_is_in_the_package():
    folder = drafters.find("auto", "fairy")
    assert folder.parent == checkpoint.find("fairy").parent
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2_000_000
    info = gemmule.load("fairy", mtp="auto").info["drafter"]
    assert (info["model_type"], info["unknown_tensors"]) == ("gemma4_assistant", [])
    assert gemmule.load("fairy").info["drafter"] is None


@pytest.mark.parametrize(
    ("options", "least"), [({"temperature": 0}, 0.65), ({"seed": 3}, 0.2)], ids=["greedy", "sampled"]
)
def test_fairys_drafter(monkeypatch, options, least):
    """The text is the plain one, and of three drafts in a row so many are right."""
    plain, model = gemmule.load("fairy"), gemmule.load("fairy", mtp="auto")
    options |= {"max_tokens": 200, "ignore_eos": True, "logprobs": True}
    wanted = [plain.generate(prompt, **options) for prompt in FAIRY_PROMPTS]
    for prompt, want in zip(FAIRY_PROMPTS, wanted, strict=True):
        result = model.generate(prompt, **options)
        assert (result.text, result.tokens, result.logprobs) == (want.text, want.tokens, want.logprobs)
        assert result.usage.drafted_tokens > 0
    new_drafting = model._new_drafting

    def fixed(sampling):
        result = new_drafting(sampling)
        result.length = Lengths(3)
        return result

    monkeypatch.setattr(model, "_new_drafting", fixed)
    usages = []
    for prompt, want in zip(FAIRY_PROMPTS, wanted, strict=True):
        result = model.generate(prompt, **options)
        assert (result.tokens, result.logprobs) == (want.tokens, want.logprobs)
        usages.append(result.usage)
    assert sum(usage.accepted_tokens for usage in usages) > least * sum(usage.drafted_tokens for usage in usages)


def test_other_targets(tmp_path):
    """A random drafter is wrong nearly always: every pass takes its drafts back."""
    target = make_checkpoint(tmp_path / "target", seed=3)
    plain = gemmule.load(target)
    folder = make_drafter(tmp_path / "drafter", plain.info["config"], ordered=True)
    options = {"max_tokens": 200, "temperature": 0, "ignore_eos": True}
    want = plain.generate([5, 6, 7], **options)
    assert gemmule.load(target, mtp=folder).generate([5, 6, 7], **options).tokens == want.tokens


# Ends


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 5, 11])
def test_max_tokens(monkeypatch, max_tokens):
    case = read_case("e2b")
    model = gemmule.load(case.folder, kv="float32")
    plain = model.generate(case.ids, temperature=0, ignore_eos=True, max_tokens=40)
    drafted = drafting(lambda run, count: plain.tokens[len(run.ids) - len(case.ids) :][:count], 5)
    monkeypatch.setattr(model, "_new_drafting", lambda _: drafted)
    result = model.generate(case.ids, temperature=0, ignore_eos=True, max_tokens=max_tokens)
    assert (result.tokens, result.finish_reason) == (plain.tokens[:max_tokens], "length")


def test_end_tokens_and_full_contexts(monkeypatch):
    case = read_case("e2b")
    for context in (97, 98, 100, 107):
        model = gemmule.load(case.folder, kv="float32", context=context)
        want = model.generate(case.ids, temperature=0, ignore_eos=True, max_tokens=None)
        drafted = drafting(lambda run, count, said=want.tokens: said[len(run.ids) - 96 :][:count], 5)
        monkeypatch.setattr(model, "_new_drafting", lambda _, drafted=drafted: drafted)
        result = model.generate(case.ids, temperature=0, ignore_eos=True, max_tokens=None)
        assert (result.tokens, result.finish_reason) == (want.tokens, "length")
        assert len(result.tokens) == context - 96 + 1
        for place in range(1, min(7, len(want.tokens))):
            model._defaults = checkpoint.GenerationConfig(end_tokens=frozenset([want.tokens[place]]))
            cut = model.generate(case.ids, temperature=0)
            first = want.tokens.index(want.tokens[place])
            assert (cut.tokens, cut.finish_reason) == (want.tokens[: first + 1], "stop")


def test_a_pass_that_is_broken_off_leaves_the_decoder_where_the_text_is():
    case = read_case("e2b")
    model = gemmule.load(case.folder, kv="float32")
    sampling = Sampling.complete(model._defaults, model._grammars, temperature=0, ignore_eos=True)
    said = model.generate(case.ids, temperature=0, ignore_eos=True, max_tokens=20).tokens
    run = Generation(
        model._new_decoder(),
        case.ids,
        sampling,
        context=200,
        tokenizer=None,
        drafting=drafting(lambda run, count: said[len(run.ids) - 96 :][:count], 4),
    )
    first_piece(run, run.decoder)
    append, calls = run.append, []

    def interrupted(token, logits):
        calls.append(token)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return append(token, logits)

    run.append = interrupted
    with pytest.raises(KeyboardInterrupt):
        run.drafting.advance(run)
    run.append = append
    assert run.ids.tolist() == [*case.ids, *said[:3]]
    assert run.decoder.length == len(run.ids) - 1
    assert [piece.token for piece in run.drafting.advance(run)] == said[3:8]


# Sampling


def test_each_token_has_the_models_distribution(monkeypatch):
    """Of 4000 second and third tokens behind a first one, drawn with drafts that are often right: as the exact
    probabilities say, within four standard errors."""
    model = gemmule.load(FIXTURES / "e2b", kv="float32")
    prompt = read_case("e2b").ids[:12]
    settings = {"temperature": 2.5, "top_k": 5, "top_p": 1.0, "max_tokens": 3, "ignore_eos": True}

    def probabilities(ids):
        """Of the five likeliest tokens."""
        logits = model.logits(ids)[-1].astype(np.float64)
        best = np.argsort(-logits)[:5]
        p = np.exp((logits[best] - logits[best].max()) / 2.5)
        return dict(zip(best.tolist(), p / p.sum(), strict=True))

    first = probabilities(prompt)
    likeliest = max(first, key=first.get)
    second = probabilities([*prompt, likeliest])
    favourite = max(second, key=second.get)
    third = probabilities([*prompt, likeliest, favourite])
    drafts = [favourite, max(third, key=third.get)]
    seen, behind = Counter(), Counter()
    for seed in range(4000):
        monkeypatch.setattr(model, "_new_drafting", lambda _: drafting(lambda run, count: drafts[:count], 2))
        tokens = model.generate(prompt, seed=seed, **settings).tokens
        if tokens[0] == likeliest:
            seen[tokens[1]] += 1
            if tokens[1] == favourite:
                behind[tokens[2]] += 1
    for counts, wanted in ((seen, second), (behind, third)):
        n = counts.total()
        assert n > 300
        assert set(counts) <= set(wanted)
        for token, p in wanted.items():
            assert abs(counts[token] - n * p) <= 4 * (n * p * (1 - p)) ** 0.5


# Usage


def test_speed_up_compares_whole_tokens(monkeypatch):
    """With the time that plain decoding takes for a token: in the model and in the sampler, not behind them."""
    now = [0.0]

    def spend(seconds, result=None):
        now[0] += seconds
        return result

    monkeypatch.setattr("gemmule.generation.drafting.time", SimpleNamespace(perf_counter=lambda: now[0]))
    run = SimpleNamespace(ids=[5], unread=np.array([5], np.int32), room=100, finish_reason=None, decode_seconds=0.0)
    run.decoder = SimpleNamespace(logits=lambda ids: spend(9.0 + len(ids), [None] * len(ids)), rewind=lambda _: None)
    run.sampler = SimpleNamespace(sample=lambda *_: spend(5.0, 7))
    run.allowed = lambda row: row
    run.append = lambda token, _: spend(100.0, SimpleNamespace(token=token))
    drafted = drafting(lambda _, count: spend(0.5 * count, [7] * count), 0, 3)
    drafted.length.plain_seconds = 10.0
    for tokens in (4, 1):
        assert len(drafted.advance(run)) == tokens
    seconds = (1.5 + 13.0 + 4 * 5.0) + (10.0 + 5.0)
    assert run.decode_seconds == seconds
    usage = drafted.counted(Usage(1, 1 + 5, 0, 1.0, run.decode_seconds))
    assert usage.speed_up == pytest.approx((10.0 + 5.0) * 5 / seconds)
    assert (usage.drafted_tokens, usage.accepted_tokens) == (3, 3)


# Drafts from the text


class Run:
    def __init__(self, ids):
        self.ids = np.array(ids, np.int32)


@pytest.mark.parametrize(
    ("ids", "count", "drafts"),
    [
        ([1, 2, 3, 4, 5, 9, 2, 3, 4], 2, [5, 9]),  # behind three tokens that stood before
        ([1, 2, 3, 4, 5, 9, 2, 3, 4], 9, [5, 9, 2, 3, 4]),
        ([7, 3, 4, 8, 1, 3, 4], 3, [8, 1, 3]),  # behind two
        ([3, 4, 8, 3, 4, 6, 1, 3, 4], 1, [6]),  # of two places the last one
        ([2, 3, 4, 8, 9, 3, 4, 6, 2, 3, 4], 1, [8]),  # three tokens count before two
        ([5, 5, 5, 5], 2, [5]),
        ([1, 2, 3, 4], 3, []),
        ([4, 4], 1, []),
        ([4], 1, []),
    ],
)
def test_prompt_lookup(ids, count, drafts):
    assert prompt_lookup(Run(ids), count) == drafts


def test_prompt_lookup_as_users_call_it():
    model = gemmule.load(FIXTURES / "e2b", kv="float32")
    prompt = np.tile(np.arange(5, 15), 6)
    options = {"temperature": 0, "max_tokens": 120, "ignore_eos": True}
    want = model.generate(prompt, **options)
    result = model.generate(prompt, draft="prompt-lookup", **options)
    assert result.tokens == want.tokens
    assert result.usage.drafted_tokens > 0


def test_wrong_arguments():
    model = gemmule.load(FIXTURES / "e2b")
    for wrong in ("mtp", "", 3, True):
        with pytest.raises(gemmule.ArgumentError, match="draft is"):
            model.generate([5], draft=wrong)


# Chats


def test_chat(tmp_path):
    """The conversation goes on as without drafts."""
    shutil.copytree(FIXTURES / "e2b", tmp_path, dirs_exist_ok=True)
    for file in (FIXTURES / "tokenizer").iterdir():
        shutil.copy(file, tmp_path)
    model = gemmule.load(tmp_path, mtp=FIXTURES / "mtp")
    plain, drafted = gemmule.load(tmp_path).chat(), model.chat()
    for text in ("Tell me a story.", "And then?", "And then?"):
        want = plain.send(text, temperature=0, max_tokens=60)
        result = drafted.send(text, temperature=0, max_tokens=60)
        assert (result.text, result.tokens) == (want.text, want.tokens)
        assert result.usage.cached_tokens == want.usage.cached_tokens
    assert drafted.messages == plain.messages
    for _ in range(2):  # left early, with tokens read that were not given yet
        next(drafted.stream("And then?", temperature=0, max_tokens=60))
    want = plain.send("What?", temperature=0, max_tokens=60)
    assert drafted.send("What?", temperature=0, max_tokens=60).tokens == want.tokens
