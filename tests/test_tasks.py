"""agenerate and astream: results of generate, for tasks that come, go, fail and are cancelled at any moment."""

import asyncio
import gc
import random
import subprocess
import sys
import threading
import time
import weakref
from contextlib import aclosing

import pytest

import gemmule
from fakes import TOKENIZER, fake_model
from gemmule.generation import scheduler
from golden_cases import FIXTURES

KINDS = ["e2b", "mobile", "moe", "gguf_e2b/model-Q4_0.gguf"]
ENDLESS = {"max_tokens": None, "ignore_eos": True, "temperature": 0}


def threads_of_schedulers():
    return [each for each in threading.enumerate() if each.name == "gemmule scheduler"]


def wait_until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


async def until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    wait_until(lambda: not threads_of_schedulers())


def requests_of(count, seed):
    """Prompts and options of all kinds."""
    source = random.Random(seed)
    for _ in range(count):
        prompt = [source.randrange(256) for _ in range(source.choice([1, 5, 70, 150]))]
        options = {"max_tokens": source.randrange(1, 30), "temperature": source.choice([0, 1.2])}
        yield prompt, {**options, "seed": source.getrandbits(64), "ignore_eos": True, "logprobs": True}


def same(result, other):
    """The same text, bit for bit."""
    return (result.tokens, result.logprobs, result.text, result.finish_reason) == (
        other.tokens,
        other.logprobs,
        other.text,
        other.finish_reason,
    )


# As alone


@pytest.mark.parametrize("name", KINDS)
def test_tasks_get_what_each_gets_alone(name):
    model, plain = (gemmule.load(FIXTURES / name, threads=2, context=200, prefix_cache=size) for size in (1 << 20, 0))
    requests = list(requests_of(12, seed=1))

    async def main():
        return await asyncio.gather(*(model.agenerate(prompt, **options) for prompt, options in requests))

    for result, (prompt, options) in zip(asyncio.run(main()), requests, strict=True):
        assert same(result, plain.generate(prompt, **options))


def test_streams_are_those_of_stream():
    model = gemmule.load("fairy", prefix_cache=0)
    prompts = ["Once upon a time", "The king", "She said", "Once upon a time"]

    async def one(prompt, place):
        return [piece async for piece in model.astream(prompt, seed=place, max_tokens=20 + 7 * place, top_logprobs=2)]

    async def main():
        return await asyncio.gather(*(one(prompt, place) for place, prompt in enumerate(prompts)))

    for place, pieces in enumerate(asyncio.run(main())):
        assert pieces == list(model.stream(prompts[place], seed=place, max_tokens=20 + 7 * place, top_logprobs=2))


def test_a_list_of_prompts():
    model = gemmule.load("fairy", prefix_cache=0, max_concurrent=2)
    prompts = ["Once upon a time", "The king", "She said", "A fox"]
    results = asyncio.run(model.agenerate(prompts, seed=3, max_tokens=25))
    assert [each.text for each in results] == [each.text for each in model.generate(prompts, seed=3, max_tokens=25)]
    assert [usage.completion_tokens for usage in (each.usage for each in results)] == [25] * 4
    unseeded = asyncio.run(model.agenerate(["Once upon a time"] * 3, temperature=1.0, top_k=0, max_tokens=20))
    assert len({each.text for each in unseeded}) == 3


def test_structures_and_drafts():
    model = gemmule.load("fairy")
    options = {"seed": 7, "max_tokens": 40}

    async def main():
        told = model.agenerate("Is a fox red? ", regex="yes|no", **options)
        return await asyncio.gather(told, model.agenerate("the cat and the dog " * 9, draft="prompt-lookup", **options))

    told, repeated = asyncio.run(main())
    assert told.text == model.generate("Is a fox red? ", regex="yes|no", **options).text
    assert repeated.tokens == model.generate("the cat and the dog " * 9, draft=None, **options).tokens
    assert repeated.usage.drafted_tokens > 0  # once it was alone


def test_usage():
    """A prompt's time is that of all its parts."""
    model = fake_model(TOKENIZER, lambda ids: time.sleep(0.05) or 299)
    usage = asyncio.run(model.agenerate([2] * 150, max_tokens=3)).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (150, 3, 0)
    assert usage.prefill_seconds >= 0.15  # 64, 64 and 22 tokens
    assert usage.decode_seconds >= 0.1


def test_tasks_share_the_steps():
    model = fake_model(TOKENIZER, lambda ids: time.sleep(0.001) or 299)

    async def main():
        await asyncio.gather(*(model.agenerate([2, place], max_tokens=50) for place in range(3, 11)))

    asyncio.run(main())
    assert sum(model._core.steps) == 8 * 49
    assert max(model._core.steps) == 8
    assert len(model._core.steps) < 100


def test_a_bound_on_those_that_run_together(monkeypatch):
    model = gemmule.load(FIXTURES / "mobile", max_concurrent=3)
    widths = []
    batch = model._new_batch()

    class Seen:
        prefill, read, sample = batch.prefill, batch.read, batch.sample

        def step(self, decoders, ids):
            widths.append(len(decoders))
            return batch.step(decoders, ids)

    monkeypatch.setattr(model._scheduler, "_new_batch", Seen)

    async def main():
        return await asyncio.gather(*(model.agenerate([2, 5], seed=1, max_tokens=9, ignore_eos=True) for _ in range(8)))

    results = asyncio.run(main())
    assert max(widths) == 3
    assert {tuple(each.tokens) for each in results} == {
        tuple(model.generate([2, 5], seed=1, max_tokens=9, ignore_eos=True).tokens)
    }


# Any moment


@pytest.mark.parametrize("seed", range(4))
def test_joining_and_cancelling_at_any_moment(seed):
    """What is not cancelled has the bits of each alone; so have the pieces of streams that were left."""
    model, plain = (gemmule.load(FIXTURES / "mobile", threads=2, context=200, prefix_cache=0) for _ in range(2))
    source = random.Random(seed)

    async def read(prompt, options, pieces):
        async for piece in model.astream(prompt, **options):
            pieces.append(piece)

    async def main():
        tasks = []
        for prompt, options in requests_of(40, seed):
            await asyncio.sleep(source.choice([0, 0, 0.001, 0.003]))
            pieces = [] if source.random() < 0.5 else None
            work = model.agenerate(prompt, **options) if pieces is None else read(prompt, options, pieces)
            tasks.append((prompt, options, pieces, asyncio.create_task(work)))
            if source.random() < 0.4:
                source.choice(tasks)[-1].cancel()
        await asyncio.gather(*(each[-1] for each in tasks), return_exceptions=True)
        return tasks

    done = 0
    for prompt, options, pieces, task in asyncio.run(main()):
        want = plain.generate(prompt, **options)
        if pieces is not None:
            assert [each.token for each in pieces] == want.tokens[: len(pieces)]
            assert [each.logprob for each in pieces] == want.logprobs[: len(pieces)]
        if not task.cancelled():
            done += 1
            assert task.exception() is None
            assert len(pieces) == len(want.tokens) if pieces is not None else same(task.result(), want)
    assert 10 < done < 40


def test_cancelling_stops_the_work_within_a_step():
    model = fake_model(TOKENIZER, lambda ids: time.sleep(0.01) or 299, context=100_000)

    async def main(work):
        task = asyncio.create_task(work)
        before = len(model._core.prefilled)
        await until(lambda: len(model._core.prefilled) > before + 3)
        assert threads_of_schedulers()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        passes = len(model._core.prefilled)
        await until(lambda: not threads_of_schedulers())
        assert len(model._core.prefilled) <= passes + 2  # of the step under way, one a sequence

    async def read():
        async for _ in model.astream([2, 5], **ENDLESS):
            pass

    asyncio.run(main(model.agenerate([2, 5], **ENDLESS)))
    asyncio.run(main(model.agenerate([[2, 5], [2, 6]], **ENDLESS)))
    asyncio.run(main(read()))
    asyncio.run(main(model.agenerate([2] * 10_000, **ENDLESS)))  # still in its prompt


def test_a_task_cancelled_before_its_prompt_is_encoded():
    model = fake_model(TOKENIZER, lambda ids: 299)

    async def main():
        task = asyncio.create_task(model.agenerate([2, 5], **ENDLESS))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not model._core.prefilled


def test_leaving_a_stream_stops_the_work():
    model = fake_model(TOKENIZER, lambda ids: time.sleep(0.001) or 299, context=100_000)

    async def main():
        async for piece in model.astream([2, 5], **ENDLESS):
            assert piece.token == 299
            break
        async with aclosing(model.astream([2, 6], **ENDLESS)) as pieces:
            async for _ in pieces:
                break
        await until(lambda: not threads_of_schedulers())
        return (await model.agenerate([2, 7], max_tokens=3, temperature=0)).tokens

    assert asyncio.run(main()) == [299] * 3


# What goes wrong


def test_a_callback_that_raises_ends_its_own_alone():
    model = gemmule.load("fairy", prefix_cache=0)

    def processor(ids, logits):
        if len(ids) > 12:
            raise LookupError("mine")

    async def main():
        good = [model.agenerate("Once upon a time", seed=place, max_tokens=40) for place in range(3)]
        bad = model.agenerate("The king", max_tokens=40, logits_processors=[processor])
        return await asyncio.gather(*good, bad, return_exceptions=True)

    *results, error = asyncio.run(main())
    assert isinstance(error, LookupError)
    for place, result in enumerate(results):
        assert same(result, model.generate("Once upon a time", seed=place, max_tokens=40))


def test_a_callback_that_raises_in_a_stream_and_in_a_list():
    model = fake_model(TOKENIZER, lambda ids: 299, context=10_000_000)

    def processor(ids, logits):
        if ids[1] == 6 and len(ids) == 5:
            raise LookupError("mine")

    async def read(pieces):
        async for piece in model.astream([2, 6], logits_processors=[processor], **ENDLESS):
            pieces.append(piece)

    pieces = []
    with pytest.raises(LookupError, match="mine"):
        asyncio.run(read(pieces))
    assert len(pieces) == 3

    async def several():
        with pytest.raises(LookupError, match="mine") as caught:
            await model.agenerate([[2, 5], [2, 6], [2, 7]], logits_processors=[processor], **ENDLESS)
        await until(lambda: not threads_of_schedulers())  # the others are given up
        return caught

    assert asyncio.run(several())


@pytest.mark.parametrize(
    ("prompt", "options", "error"),
    [
        ("", {}, gemmule.ArgumentError),
        ([2, 640], {}, gemmule.ArgumentError),
        ([2] * 300, {}, gemmule.ContextError),
        ([[2], [2] * 300], {}, gemmule.ContextError),
        ([2], {"temperature": -1}, gemmule.ArgumentError),
        ([2], {"draft": "x"}, gemmule.ArgumentError),
        ([2], {"size": 1}, TypeError),
        ([{"role": "user", "content": [{"type": "image"}]}], {}, gemmule.UnsupportedError),
    ],
    ids=repr,
)
def test_wrong_arguments_are_refused_as_generate_does(prompt, options, error):
    model = fake_model(TOKENIZER, lambda ids: 299)
    with pytest.raises(error) as want:
        model.generate(prompt, **options)
    with pytest.raises(error) as got:
        asyncio.run(model.agenerate(prompt, **options))
    if error is not TypeError:
        assert str(got.value) == str(want.value)

    async def stream():
        return [piece async for piece in model.astream(prompt, **options)]

    with pytest.raises((error, gemmule.ArgumentError)):
        asyncio.run(stream())
    assert not model._core.prefilled


@pytest.mark.parametrize("bound", [0, 65, 2.0, True, None], ids=repr)
def test_wrong_bounds_are_refused(bound):
    with pytest.raises(gemmule.ArgumentError, match="max_concurrent"):
        gemmule.load("fairy", max_concurrent=bound)


def test_without_an_event_loop():
    model = fake_model(TOKENIZER, lambda ids: 299)
    for work in (model.agenerate([2]), model.astream([2]).__anext__()):
        with pytest.raises(gemmule.ArgumentError, match=r"event loop.*\n.*generate and stream"):
            work.send(None)


def test_an_event_loop_that_is_closed():
    """The work ends; reading on in another loop is refused."""
    model = fake_model(TOKENIZER, lambda ids: time.sleep(0.001) or 299, context=100_000)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    pieces = model.astream([2, 5], **ENDLESS)
    assert first.run_until_complete(pieces.__anext__()).token == 299
    first.close()
    wait_until(lambda: not threads_of_schedulers())
    with pytest.raises(gemmule.ArgumentError, match="another event loop"):
        second.run_until_complete(anext(pieces))
    assert second.run_until_complete(model.agenerate([2, 7], max_tokens=3, temperature=0)).tokens == [299] * 3
    second.close()


def test_two_event_loops():
    model = gemmule.load("fairy", prefix_cache=0)
    want = [model.generate("Once upon a time", seed=place, max_tokens=60).tokens for place in range(8)]
    got = {}

    async def main(places):
        results = await asyncio.gather(
            *(model.agenerate("Once upon a time", seed=place, max_tokens=60) for place in places)
        )
        got.update(zip(places, (each.tokens for each in results), strict=True))

    threads = [
        threading.Thread(target=lambda places=places: asyncio.run(main(places)))
        for places in ((0, 1, 2, 3), (4, 5, 6, 7))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[place] for place in range(8)] == want


def test_beside_generate_in_other_threads():
    model = gemmule.load("fairy", prefix_cache=0)
    want = [model.generate("Once upon a time", seed=place, max_tokens=60).tokens for place in range(6)]

    async def main():
        tasks = [model.agenerate("Once upon a time", seed=place, max_tokens=60) for place in range(3)]
        threads = [
            asyncio.to_thread(model.generate, "Once upon a time", seed=place, max_tokens=60) for place in range(3, 6)
        ]
        return await asyncio.gather(*tasks, *threads)

    assert [each.tokens for each in asyncio.run(main())] == want


def test_no_thread_to_be_had(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    model = fake_model(TOKENIZER, lambda ids: 299)
    monkeypatch.setattr(scheduler._Worker, "start", refuse)
    with pytest.raises(gemmule.ResourceError, match="no thread"):
        asyncio.run(model.agenerate([2]))
    monkeypatch.undo()
    assert asyncio.run(model.agenerate([2], max_tokens=2, temperature=0)).tokens == [299] * 2


def test_no_thread_to_prepare_in():
    model = fake_model(TOKENIZER, lambda ids: 299)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    async def main():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(gemmule.ResourceError, match="no thread"):
                await model.agenerate([2])
        return await model.agenerate([2], max_tokens=2, temperature=0)

    assert asyncio.run(main()).tokens == [299] * 2


def test_no_memory_for_what_all_share(monkeypatch):
    model = fake_model(TOKENIZER, lambda ids: 299)
    new_batch = model._new_batch

    def broken():
        batch = new_batch()

        def sample(*_):
            raise MemoryError("no memory")

        batch.sample = sample
        return batch

    monkeypatch.setattr(model._scheduler, "_new_batch", broken)

    async def main():
        return await asyncio.gather(*(model.agenerate([2, 5]) for _ in range(3)), return_exceptions=True)

    assert [type(each) for each in asyncio.run(main())] == [MemoryError] * 3


# Ends


def test_no_thread_keeps_a_model():
    """A task that nobody runs on, nor cancels, goes with its last reference, and so does the model."""
    model = fake_model(TOKENIZER, lambda ids: time.sleep(0.001) or 299, context=10_000_000)
    steps = model._core.steps
    loop = asyncio.new_event_loop()
    task = loop.create_task(model.agenerate([2, 5], **ENDLESS))
    waiting = loop.create_task(model.agenerate([2, 5], **ENDLESS))
    loop.run_until_complete(until(lambda: len(steps) > 3))
    gone = weakref.ref(model)
    del model, task, waiting

    def is_gone():
        gc.collect()
        return gone() is None and not threads_of_schedulers()

    wait_until(is_gone)
    loop.close()


AT_EXIT = {
    "a loop that stands still": (
        "loop = asyncio.new_event_loop()\n"
        "task = loop.create_task(endless())\n"
        "loop.run_until_complete(asyncio.sleep(0.2))\n"
        "print('end')\n"
    ),
    "a loop in a daemon thread": (
        "threading.Thread(target=asyncio.run, args=(endless(),), daemon=True).start()\ntime.sleep(0.3)\nprint('end')\n"
    ),
    "a loop that goes on behind the main thread": (
        "async def last():\n"
        "    result = await model.agenerate('The king', max_tokens=9, ignore_eos=True, logits_processors=[slow])\n"
        "    print('end' if len(result.tokens) == 9 else result)\n"
        "threading.Thread(target=asyncio.run, args=(last(),)).start()\n"
        "time.sleep(0.2)\n"
    ),
    "an error in the main task": (
        "async def main():\n"
        "    task = asyncio.create_task(endless())\n"
        "    await asyncio.sleep(0.2)\n"
        "    print('end')\n"
        "    sys.exit(0)\n"
        "asyncio.run(main())\n"
    ),
}


@pytest.mark.parametrize("script", AT_EXIT.values(), ids=AT_EXIT)
def test_python_ends(script):
    head = (
        "import asyncio, sys, threading, time, gemmule\n"
        "model = gemmule.load('fairy')\n"
        "def slow(ids, logits): time.sleep(0.1)\n"
        "async def endless():\n"
        "    await model.agenerate('Once', max_tokens=None, ignore_eos=True, logits_processors=[slow])\n"
    )
    child = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stdout) == (0, "end\n"), child.stderr
    assert "Fatal" not in child.stderr


def test_at_python_s_exit():
    script = (
        "import asyncio, atexit, gemmule\n"
        "model = gemmule.load('fairy')\n"
        "@atexit.register\n"
        "def last():\n"
        "    try:\n"
        "        asyncio.run(model.agenerate('Once', max_tokens=3))\n"
        "    except gemmule.ResourceError as error:\n"
        "        print(error.message)\n"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert child.stdout == "Python is at its exit\n", child.stderr
