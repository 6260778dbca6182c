"""The figures of compare.py: what each measures, and what it must reach."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agreement
import gguf_checkpoint
import side_by_side
from compare_setup import Setup
from engine_process import EngineProcess, Side
from gguf_checkpoint import GgufCheckpoint
from side_by_side import Turn, Turns
from spread import summary

MOST_RESTING = 0.02  # cores that the resting engine may take

Measured = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """A threshold in words, and whether what was measured reaches it."""

    text: str
    reached: Callable[[Measured], bool]


@dataclass(frozen=True)
class Figure:
    """A row of the table. against: what the ratio is to. is_long: minutes to an hour, so only where it is asked for."""

    title: str
    against: str
    measure: Callable[[Setup], Measured]
    at_least: Goal
    aim: Goal | None = None
    is_long: bool = False


def speeds(turns: Turns, **more: Any) -> Measured:
    """In tokens/s, of gemmule and the fastest of the other sides."""
    medians = [statistics.median(values) for values in turns.values]
    best = max(range(1, len(medians)), key=medians.__getitem__)
    slower = [
        {"loaded": turns.loaded[side], **summary(turns.values[side])} for side in range(1, len(medians)) if side != best
    ]
    ours, theirs = turns.values[0], turns.values[best]
    return {
        "unit": "tokens/s",
        "gemmule": summary(ours),
        "against": summary(theirs),
        "ratio": summary([a / b for a, b in zip(ours, theirs, strict=True)]),
        "loaded": [turns.loaded[0], turns.loaded[best]],
        "slower_settings": slower,
        "resting_cores": turns.resting_cores,
        **more,
        "checks": {"the resting engine sleeps": turns.resting_cores <= MOST_RESTING, **more.get("checks", {})},
    }


def seconds(answer: dict[str, Any]) -> float:
    """What a call took. Ends the program where its logits are no numbers: a speed of nonsense is of no use."""
    if not answer["finite"]:
        sys.exit("an engine's logits are not finite")
    return float(answer["seconds"])


def decoding(setup: Setup) -> Turn:
    """Tokens/s behind a short prompt."""
    sizes = setup.sizes
    tokens = setup.tokens(sizes.short_prompt + sizes.decoded)

    def turn(engine: EngineProcess) -> float:
        seconds(engine.call("prefill", tokens=tokens[: sizes.short_prompt]))
        return sizes.decoded / seconds(engine.call("decode", tokens=tokens[sizes.short_prompt :]))

    return turn


def decode(setup: Setup, sides: Sequence[Side], **more: Any) -> Turns:
    """Turns of decoding, with the read bandwidth between them: memory that is shared is not the same for a minute."""
    return side_by_side.measure(sides, decoding(setup), setup.repeat, beside=setup.read_bandwidth, **more)


def decode_speeds(turns: Turns, weight_bytes: int, **more: Any) -> Measured:
    """weight_bytes: what a token reads."""
    shares = [speed * weight_bytes / read for speed, read in zip(turns.values[0], turns.beside, strict=True)]
    return speeds(
        turns,
        weight_bytes_per_token=weight_bytes,
        read_bytes_per_second=summary(turns.beside),
        share_of_bandwidth=statistics.median(shares),
        **more,
    )


def decode_mobile(setup: Setup) -> Measured:
    return decode_of_mobile(setup, setup.gemmule(setup.text_files), setup.llama_cpp(setup.q4_0.file))


def decode_of_mobile(setup: Setup, *sides: Side) -> Measured:
    return decode_speeds(decode(setup, sides), setup.checkpoint.weight_bytes_per_token)


def decode_q4_0(setup: Setup) -> Measured:
    return decode_same_file(setup, setup.q4_0)


def decode_a4b(setup: Setup) -> Measured:
    return decode_same_file(setup, setup.a4b)


def decode_same_file(setup: Setup, checkpoint: GgufCheckpoint) -> Measured:
    agreed: dict[str, Any] = {}

    def compare(engines: list[EngineProcess]) -> None:
        exact = setup.gemmule(checkpoint.file, activations="float32")
        agreed.update(agreement.measure(*engines, exact, setup.vocab_size))

    sides = setup.gemmule(checkpoint.file), setup.llama_cpp(checkpoint.file)
    turns = decode(setup, sides, after=compare)
    return decode_speeds(
        turns,
        checkpoint.weight_bytes_per_token,
        agreement=agreed,
        checks={"both engines give the same logits": agreed["agree"]},
    )


def prefill_mobile(setup: Setup) -> Measured:
    return prefill(setup, setup.text_files)


def prefill_q4_0(setup: Setup) -> Measured:
    return prefill(setup, setup.q4_0.file)


def prefill(setup: Setup, path: Path) -> Measured:
    tokens = setup.tokens(setup.sizes.prompt)

    def turn(engine: EngineProcess) -> float:
        return len(tokens) / seconds(engine.call("prefill", tokens=tokens))

    sides = setup.gemmule(path), *both_attentions(setup)
    products = gguf_checkpoint.prefill_multiply_adds(gguf_checkpoint.CONFIGS[setup.sizes.shape], len(tokens))
    turns = side_by_side.measure(sides, turn, setup.repeat)
    return speeds(turns, multiply_adds_per_token=products / len(tokens))


def both_attentions(setup: Setup, **load: Any) -> list[Side]:
    """llama.cpp with flash attention and without: where attention takes time, the faster one counts."""
    return [setup.llama_cpp(setup.q4_0.file, flash_attention=flash, **load) for flash in (True, False)]


def decode_long(setup: Setup) -> Measured:
    """One prompt that all but fills the context, then a few tokens more each turn."""
    sizes = setup.sizes
    rest = sizes.long_decoded * (setup.repeat + 1)
    tokens, more = setup.tokens(sizes.long_context - rest), setup.tokens(sizes.long_decoded)
    prefill_seconds: list[float] = []

    def read(engine: EngineProcess) -> None:
        prefill_seconds.append(seconds(engine.call("prefill", tokens=tokens)))

    def turn(engine: EngineProcess) -> float:
        return len(more) / seconds(engine.call("decode", tokens=more))

    sides = (
        setup.gemmule(setup.text_files, context=sizes.long_context),
        *both_attentions(setup, context=sizes.long_context),
    )
    turns = side_by_side.measure(sides, turn, setup.repeat, before=read)
    return speeds(turns, prompt_tokens=len(tokens), prefill_seconds=prefill_seconds)


def first_token(setup: Setup) -> Measured:
    """Milliseconds from `load` on, in a new process each time that has imported its packages."""
    text = setup.text(setup.sizes.short_prompt)
    sides = (
        setup.gemmule(setup.text_files, context=setup.sizes.text_context),
        setup.llama_cpp(setup.q4_0.file, context=setup.sizes.text_context),
    )

    def once(side: Side) -> float:
        with EngineProcess(side) as engine:
            return 1000 * seconds(engine.call("first_token", text=text, **side.load))

    ours: list[float] = []
    theirs: list[float] = []
    for repetition in range(setup.repeat + 1):
        for values, side in zip((ours, theirs), sides, strict=True):
            time.sleep(side_by_side.PAUSE_SECONDS)
            value = once(side)
            if repetition > 0:
                values.append(value)
    return {
        "unit": "ms",
        "gemmule": summary(ours),
        "against": summary(theirs),
        "ratio": summary([b / a for a, b in zip(ours, theirs, strict=True)]),
        "checks": {},
    }


def memory(setup: Setup) -> Measured:
    """Most resident bytes of a process that reads a text and writes one, together as long as the context."""
    sizes = setup.sizes
    text = setup.text(sizes.text_context - sizes.text_new)
    with EngineProcess(setup.gemmule(setup.text_files, context=sizes.text_context)) as engine:
        loaded = [engine.load()]
        generated = engine.call("generate", text=text, max_tokens=sizes.text_new)
    peak = generated["peak_resident_bytes"]
    return {"unit": "MB", "gemmule": summary([peak / 1e6]), "loaded": loaded, **generated, "checks": {}}


def one_thread_to_four(setup: Setup) -> Measured:
    return decode_of_mobile(setup, setup.gemmule(setup.text_files), setup.gemmule(setup.text_files, threads=1))


def avx2(setup: Setup) -> Measured:
    forced = setup.gemmule(setup.text_files, environment={"GEMMULE_TARGET": "AVX2"})
    return decode_of_mobile(setup, forced, setup.gemmule(setup.text_files))


def batch(setup: Setup) -> Measured:
    return together(setup, {})


def batch_avx2(setup: Setup) -> Measured:
    return together(setup, {"GEMMULE_TARGET": "AVX2"})


def together(setup: Setup, environment: dict[str, str]) -> Measured:
    """Tokens/s of several sequences in all, beside those of one."""
    many = setup.gemmule(setup.text_files, environment=environment, sequences=setup.sizes.sequences)
    one = setup.gemmule(setup.text_files, environment=environment)
    steps = decoding(setup)

    def turn(engine: EngineProcess) -> float:
        return steps(engine) * engine.side.load.get("sequences", 1)

    return speeds(side_by_side.measure((many, one), turn, setup.repeat))


def text_work(setup: Setup) -> Measured:
    """What a turn of a chat takes outside of the model, for each new token, in steps of decoding: template, tokenizing,
    sampling as Gemma asks for it, detokenizing, and the loop around them."""
    tokens = setup.sizes.message
    message = setup.text(tokens)
    shares = []
    # A template that is not Google's own is rendered in a process of its own unless it is trusted.
    with EngineProcess(setup.gemmule(setup.text_files, trust_template=True)) as engine:
        loaded = [engine.load()]
        for _ in range(setup.repeat + 1):
            turn = engine.call("turn", message=message, max_tokens=tokens)
            outside = (turn["seconds"] - turn["model_seconds"]) / tokens
            shares.append(100 * outside / statistics.median(turn["step_seconds"]))
    return {"unit": "%", "gemmule": summary(shares[1:]), "loaded": loaded, "checks": {}}


def ratio(least: float) -> Goal:
    return Goal(f"{least:g} x", lambda found: found["ratio"]["median"] >= least)


def ratio_or_bandwidth(least: float, share: float) -> Goal:
    return Goal(
        f"{least:g} x or {100 * share:.0f} % of the bandwidth",
        lambda found: found["ratio"]["median"] >= least or found["share_of_bandwidth"] >= share,
    )


def ratio_and_peak(least: float, share: float) -> Goal:
    return Goal(
        f"{least:g} x and {100 * share:.0f} % of the int8 peak",
        lambda found: found["ratio"]["median"] >= least and found["share_of_int8_peak"] >= share,
    )


def at_most(most: float, unit: str) -> Goal:
    return Goal(f"<= {most:g} {unit}", lambda found: found["gemmule"]["median"] <= most)


FIGURES = {
    "decode-mobile": Figure(
        "decode, mobile", "llama.cpp Q4_0", decode_mobile, ratio(2.0), ratio_or_bandwidth(2.8, 0.85)
    ),
    "decode-q4_0": Figure(
        "decode, Q4_0 GGUF", "llama.cpp, same file", decode_q4_0, ratio(1.3), ratio_or_bandwidth(1.6, 0.85)
    ),
    "prefill-mobile": Figure(
        "prefill 512, mobile", "llama.cpp Q4_0", prefill_mobile, ratio(3.5), ratio_and_peak(4.5, 0.75)
    ),
    "prefill-q4_0": Figure("prefill 512, Q4_0 GGUF", "llama.cpp, same file", prefill_q4_0, ratio(2.5), ratio(3.0)),
    "decode-32k": Figure(
        "decode at 32k, mobile", "llama.cpp Q4_0, f16 cache", decode_long, ratio(2.5), ratio(4.0), is_long=True
    ),
    "first-token": Figure("load to first token", "llama.cpp Q4_0", first_token, ratio(3.0), ratio(10.0)),
    "memory": Figure("resident peak, mobile", "", memory, at_most(1000, "MB"), at_most(920, "MB")),
    "threads": Figure("decode, all threads", "one thread", one_thread_to_four, ratio_or_bandwidth(2.5, 0.85)),
    "avx2": Figure("decode, mobile, AVX2", "the best target", avx2, ratio(0.9), ratio(0.98)),
    "batch": Figure("decode, 8 sequences, mobile", "one sequence", batch, ratio(4.0)),
    "batch-avx2": Figure("decode, 8 sequences, AVX2", "one sequence, AVX2", batch_avx2, ratio(2.0)),
    "decode-a4b": Figure(
        "decode, 26B-A4B Q4_0", "llama.cpp, same file", decode_a4b, ratio(1.3), ratio(1.8), is_long=True
    ),
    "text": Figure("text work in a step", "", text_work, at_most(3, "%"), at_most(1, "%")),
}
