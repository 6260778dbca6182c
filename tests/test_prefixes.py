"""What a model has read is not read again, with the same bits, in bounded memory, from many threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gemmule
from chat_models import KINDS, chat_folder, chat_model
from gemmule import _core
from golden_cases import read_case

GREEDY = {"temperature": 0, "max_tokens": 12, "ignore_eos": True, "logprobs": True}


@pytest.fixture(params=KINDS, ids=["f32", "bf16", "static"])
def kind(request):
    return request.param


def loaded(kind, **options):
    return gemmule.load(read_case(kind[0]).folder, kv=kind[1], threads=1, **options)


def ids_of(count, seed=0):
    return np.random.default_rng(seed).integers(3, 600, count, dtype=np.int32)


def together(*parts):
    return np.concatenate(parts)


def same(one, other):
    return one.tokens == other.tokens and one.logprobs == other.logprobs


def test_a_prompt_that_grows_reads_what_is_new(kind):
    model, plain = loaded(kind), loaded(kind, prefix_cache=0)
    prompt = ids_of(150)
    for step in range(4):
        result, want = (each.generate(prompt, **GREEDY) for each in (model, plain))
        assert same(result, want)
        assert want.usage.cached_tokens == 0
        # All of the last prompt, but not the answer: it was not part of a prompt yet.
        assert result.usage.cached_tokens == (0 if step == 0 else len(prompt) - 12 - 70)
        prompt = together(prompt, np.array(result.tokens, np.int32), ids_of(70, step + 1))


def test_the_same_prompt_again(kind):
    model = loaded(kind)
    first, again = (model.generate(ids_of(200), **GREEDY) for _ in range(2))
    assert same(first, again)
    assert again.usage.cached_tokens == 199  # the last token's logits are computed


def test_of_a_long_shared_beginning_the_third_reads_what_differs(kind):
    model, plain = loaded(kind), loaded(kind, prefix_cache=0)
    system = ids_of(230)
    cached = []
    for seed in range(1, 6):
        prompt = together(system, ids_of(200 + seed, seed))
        result = model.generate(prompt, **GREEDY)
        assert same(result, plain.generate(prompt, **GREEDY))
        cached.append(result.usage.cached_tokens)
    # Behind the first prompt sliding layers have lost where the second one parts from it: that one keeps the place.
    assert cached[0] == cached[1] == 0
    assert all(count >= 230 for count in cached[2:])


def test_prompts_given_together_share(kind):
    model, plain = loaded(kind), loaded(kind, prefix_cache=0)
    system = ids_of(230)
    prompts = [together(system, ids_of(200, seed)) for seed in range(1, 5)]
    results, want = (each.generate(prompts, **GREEDY) for each in (model, plain))
    assert all(same(one, other) for one, other in zip(results, want, strict=True))
    assert [each.usage.cached_tokens for each in results] == [0, 0, 230, 230]


def test_a_conversation_sent_as_a_whole(kind, tmp_path):
    model = chat_model(*kind)
    plain = chat_model(*kind, prefix_cache=0)
    messages = [{"role": "system", "content": "Tell tales. " * 30}]
    for turn in range(4):
        messages.append({"role": "user", "content": f"A tale about {turn} foxes."})
        result, want = (each.generate(messages, **GREEDY) for each in (model, plain))
        assert same(result, want)
        if turn:
            assert result.usage.prompt_tokens - result.usage.cached_tokens < 100
        messages.append({"role": "assistant", "content": result.text})


def test_chats_share_a_system_prompt(kind):
    model = chat_model(*kind)
    system = "Speak of foxes alone. " * 40 + kind[1]
    cached = [model.chat(system).send("Hi " * (5 * i), **GREEDY).usage.cached_tokens for i in range(1, 6)]
    assert all(count > 400 for count in cached[2:])


def test_a_chat_goes_back_over_a_long_answer(kind):
    """Its own cache has lost what the published template asks for: an answer without the prompt's empty thought."""
    model, plain = chat_model(*kind), chat_model(*kind, prefix_cache=0)
    chats = [each.chat("Tell tales. " * 30) for each in (model, plain)]
    options = {**GREEDY, "max_tokens": 200}
    before = 0
    for turn in range(3):
        one, other = (each.send(f"Turn {turn}.", **options) for each in chats)
        assert same(one, other)
        assert one.usage.cached_tokens >= before - 10  # the last prompt but its end
        assert other.usage.cached_tokens == 0
        before = one.usage.prompt_tokens


def test_undo_reads_nothing_twice(kind):
    chat = chat_model(*kind).chat("Tell tales. " * 30)
    chat.send("One.", **{**GREEDY, "max_tokens": 200})
    chat.undo()
    usage = chat.send("One.", **GREEDY).usage
    assert usage.cached_tokens == usage.prompt_tokens - 1


def test_memory_is_bounded(kind):
    model = loaded(kind)
    one = model._new_decoder()
    one.prefill(ids_of(300))
    for most in (0, 1, one.cache_bytes, 3 * one.cache_bytes):
        small = loaded(kind, prefix_cache=most)
        kept = small._prefixes
        for seed in range(8):
            result = small.generate(ids_of(300, seed), **GREEDY)
            assert kept.bytes <= most
            assert same(result, model.generate(ids_of(300, seed), **GREEDY))
        assert (kept.bytes > 0) == (most >= one.cache_bytes)
        again = small.generate(ids_of(300, 7), **GREEDY).usage.cached_tokens
        assert again == (299 if most >= one.cache_bytes else 0)


def test_the_number_is_bounded():
    model = loaded(KINDS[2])
    for seed in range(50):
        model.generate(ids_of(70, seed), **GREEDY)
    assert len(model._prefixes._kept) == 32
    assert model.generate(ids_of(70, 49), **GREEDY).usage.cached_tokens == 69
    assert model.generate(ids_of(70, 0), **GREEDY).usage.cached_tokens == 0


def test_short_prompts_are_not_kept():
    model = loaded(KINDS[2])
    model.generate(ids_of(_core.CHUNK_TOKENS - 1), **GREEDY)
    assert model._prefixes.bytes == 0


def test_forks_of_a_long_prompt_cost_little():
    """What is kept of a prompt and of one that goes on from it is shared."""
    model = loaded(KINDS[0])
    prompt = ids_of(600)
    model.generate(prompt, **GREEDY)
    before = model._prefixes.bytes
    model.generate(together(prompt, ids_of(10, 1)), **GREEDY)
    sliding = sum(
        (16 // 64 + 3) * 64 * each["bytes"]  # a ring, at the most
        for each in model._new_decoder().extents(1)
        if model.info["config"]["layer_types"][each["layer"]] == "sliding_attention"
    )
    full = sum(64 * each["bytes"] for each in model._new_decoder().extents(1)) - sliding // 3
    assert 0 < model._prefixes.bytes - before <= sliding + full


def test_threads_share_it(kind):
    model, plain = loaded(kind), loaded(kind, prefix_cache=0)
    system = ids_of(150)
    prompts = [together(system, ids_of(80, seed % 7)) for seed in range(40)]
    want = [plain.generate(prompt, **GREEDY) for prompt in prompts[:7]]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda prompt: model.generate(prompt, **GREEDY), prompts))
    assert all(same(result, want[place % 7]) for place, result in enumerate(results))


def test_a_stopped_prompt_is_kept_as_far_as_it_was_read(monkeypatch):
    model = loaded(KINDS[2])
    prompt = ids_of(200)
    next(model.stream(prompt, **GREEDY))  # left after the first piece
    assert model.generate(prompt, **GREEDY).usage.cached_tokens == 199


def test_off_where_memory_is_limited():
    assert gemmule.load(read_case("mobile").folder, memory_limit=2**30)._prefixes._most_bytes == 0
    assert gemmule.load(read_case("mobile").folder)._prefixes._most_bytes == 256 << 20
    for wrong in (-1, 1.5, "much", True):
        with pytest.raises(gemmule.ArgumentError, match="prefix_cache"):
            gemmule.load(read_case("mobile").folder, prefix_cache=wrong)


def test_loaded_chats_too(kind, tmp_path):
    """A chat that was loaded goes back over an answer as others do."""
    model = gemmule.load(chat_folder(kind[0], tmp_path / "model"), kv=kind[1], trust_template=True)
    chat = model.chat("Tell tales. " * 30)
    chat.send("One.", **{**GREEDY, "max_tokens": 200})
    chat.save(tmp_path / "fox.chat")
    loaded = gemmule.load(tmp_path / "model", kv=kind[1], trust_template=True).load_chat(tmp_path / "fox.chat")
    one, other = (each.send("Two.", **GREEDY) for each in (chat, loaded))
    assert same(one, other)
    assert one.usage.cached_tokens == other.usage.cached_tokens > 100
