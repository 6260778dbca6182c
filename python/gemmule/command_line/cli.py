"""The command line: `gemmule VERB ...`. A verb is a function and its arguments; all of them stand in VERBS."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__
from ..arguments import path
from ..chats.chat import Chat
from ..checkpoints.checkpoint import DEMO
from ..errors import GemmuleError, UnsupportedError
from ..generation.generate import Piece, Result
from ..generation.sampling import DRAFTS, GenerationOptions
from ..loading import load
from ..model import Model
from ..quality.divergence import compare
from ..quality.evaluate import perplexity
from ..quality.windows import SCORES
from . import bench_verb, checkpoint_verbs
from .command import Verb, add_arithmetic, add_output, add_threads, print_found, print_json
from .streams import OutputError, lines, prepare, remark, say, standard_input

_ERROR = 1
_FAULT = 70  # EX_SOFTWARE of sysexits.h; Python's own is 1, with which `verify` says that a checkpoint is damaged
_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def generate(arguments: argparse.Namespace) -> None:
    prompt = " ".join(arguments.prompt)
    if prompt == "-":
        prompt = standard_input().removesuffix("\n")
    model = _load(arguments)
    if arguments.json:
        result = model.generate(prompt, **_options(arguments))
        print_json({"prompt": prompt, **_result(result)})
        return
    pieces = model.stream(prompt, **_options(arguments))
    say(prompt)
    for piece in pieces:
        say(piece.text)
    say("\n")


def chat(arguments: argparse.Namespace) -> None:
    model = _load(arguments)
    hint = "Ctrl-C stops an answer; Ctrl-D or /exit leaves."
    talk: Chat | PlainTalk
    try:
        talk = model.chat(system=arguments.system)
    except UnsupportedError as error:
        talk = PlainTalk(model, arguments.system)
        hint = f"{error.message}: it continues the transcript as plain text. {hint}"
    if not arguments.quiet:
        remark(hint)
    for line in lines():
        try:
            if arguments.json:
                print_json(_result(talk.send(line, **_options(arguments))))
                continue
            for piece in talk.stream(line, **_options(arguments)):
                say(piece.text)
            say("\n")
        except KeyboardInterrupt:
            say("\n")
        except OutputError:
            raise
        except GemmuleError as error:
            remark(f"gemmule: {error}")


def evaluate(arguments: argparse.Namespace) -> None:
    found = perplexity(_load(arguments), _file(arguments.file), **_protocol(arguments))
    if arguments.json:
        print_json(asdict(found))
        return
    bits = "" if found.bits_per_byte is None else f", {found.bits_per_byte:.4f} bits per byte"
    say(f"perplexity {found.perplexity:.4f} +- {found.perplexity_stderr:.4f} over {found.tokens} tokens{bits}\n")
    say(f"mean {found.mean_nll:.5f} +- {found.stderr:.5f} nats per token\n")


def measure_divergence(arguments: argparse.Namespace) -> None:
    shared = {"threads": arguments.threads, "context": arguments.context}
    model = load(arguments.model, activations=arguments.activations, kv=arguments.kv, **shared)
    reference = load(
        arguments.reference, activations=arguments.reference_activations, kv=arguments.reference_kv, **shared
    )
    found = compare(model, reference, _file(arguments.file), **_protocol(arguments))
    print_found(found, arguments)


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    add = group.add_argument
    add("-m", "--model", default=DEMO, metavar="PATH", help='folder or hub name (default: "fairy", the demo)')
    _add_sizes(group)
    add_arithmetic(group)
    add("--trust-template", action="store_true", help="render the checkpoint's chat template without limits")


def _add_models(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help='folder or hub name, or "fairy", the demo')
    add("reference", metavar="REFERENCE", help="what it is compared with, likewise")
    _add_sizes(parser.add_argument_group("both models"))
    add_arithmetic(parser.add_argument_group("model"))
    add_arithmetic(parser.add_argument_group("reference"), "reference-")


def _add_sizes(group: argparse._ArgumentGroup) -> None:
    add_threads(group)
    group.add_argument(
        "--context", type=int, metavar="N", help="tokens a sequence may have (default: the checkpoint's maximum)"
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("sampling", "Where nothing is said, the checkpoint's own settings.").add_argument
    add("-n", "--max-tokens", type=_count, default=200, metavar="N", help='new tokens, or "none" (default: 200)')
    add("--temperature", type=float, metavar="X", help="0: always the likeliest token")
    add("--top-k", type=int, metavar="N", help="only the N likeliest tokens; 0: off")
    add("--top-p", type=float, metavar="X", help="only the likeliest tokens that reach X together; 1: off")
    add("--min-p", type=float, metavar="X", help="only tokens X times as likely as the likeliest; 0: off")
    add("--repetition-penalty", type=float, metavar="X", help="1: off")
    add("--seed", type=int, metavar="N", help="the same seed gives the same text")
    add("--stop", action="append", metavar="TEXT", help="end before this text; may be given several times")
    add("--ignore-eos", action="store_true", help="go on behind end tokens")


def _add_drafting(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("drafting", "The text stays the same; it may come faster.").add_argument
    add("--mtp", metavar="PATH", help="the model's drafter: folder, hub name, or \"auto\", the model's own")
    add("--draft", choices=DRAFTS, default=DRAFTS[0], help='"prompt-lookup": text that repeats its prompt')


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="+", metavar="PROMPT", help='text to continue; "-": from standard input')
    parser.add_argument("--logprobs", action="store_true", help="with --json: ln p of each token")


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", metavar="TEXT", help="instructions before the first turn")


def _add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help='text file in UTF-8; "-": from standard input')
    parser.add_argument("--window", type=int, default=512, metavar="N", help="tokens a pass sees (default: 512)")
    parser.add_argument("--score", choices=SCORES, default=SCORES[0], help=f"tokens to score (default: {SCORES[0]})")
    parser.add_argument("--windows", type=int, metavar="N", help="only the first N windows of the text")
    parser.add_argument("--stride", type=int, metavar="N", help='with "all": tokens a window moves by')


VERBS = {
    "generate": Verb(
        "continue a text", generate, [_add_generate, _add_model, _add_sampling, _add_drafting, add_output]
    ),
    "chat": Verb("talk with a model", chat, [_add_chat, _add_model, _add_sampling, _add_drafting, add_output]),
    "perplexity": Verb("measure how well a model predicts a text", evaluate, [_add_text, _add_model, add_output]),
    "compare": Verb(
        "measure how far a model is from another one on a text",
        measure_divergence,
        [_add_models, _add_text, add_output],
    ),
    **checkpoint_verbs.VERBS,
    **bench_verb.VERBS,
}


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    whole = argparse.ArgumentParser(prog="gemmule", description="Run Gemma 4's QAT checkpoints on the CPU.")
    whole.add_argument("--version", action="version", version=f"gemmule {__version__}")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        own = verbs.add_parser(name, help=verb.help, description=verb.help.capitalize() + ".")
        for add_arguments in verb.add_arguments:
            add_arguments(own)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit code: 0, 1 for an error or a checkpoint that `verify` finds wrong,
    70 for a fault of gemmule's own, 130 for Ctrl-C; wrong usage exits with 2."""
    try:
        prepare()
        arguments = parser().parse_args(argv)
        return VERBS[arguments.verb].run(arguments) or 0
    except GemmuleError as error:
        remark(f"gemmule: {error}")
        return _ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _BROKEN_PIPE
    except Exception:
        remark(traceback.format_exc())
        return _FAULT


class PlainTalk:
    """A talk with a model that knows no turns: each line is added to the transcript, and the model goes on."""

    def __init__(self, model: Model, opening: str | None) -> None:
        self._model = model
        self._tokenizer = model._need_tokenizer()
        self._transcript = f"{opening}\n" if opening else ""

    def send(self, text: str, **options: Any) -> Result:
        prompt = self._extended(text)
        result = self._model.generate(self._ids(prompt), **options)
        self._transcript = prompt + result.text
        return result

    def stream(self, text: str, **options: Any) -> Iterator[Piece]:
        prompt, answer = self._extended(text), ""
        for piece in self._model.stream(self._ids(prompt), **options):
            answer += piece.text
            yield piece
        self._transcript = prompt + answer

    def _extended(self, text: str) -> str:
        between = "\n" if self._transcript and not self._transcript.endswith("\n") else ""
        return self._transcript + between + text

    def _ids(self, transcript: str) -> list[int]:
        """The transcript's last tokens, as far as they leave half of the context to the answer."""
        bos, *ids = self._tokenizer.encode(transcript, parse_special=False)
        return [bos, *ids[-max(1, self._model.context // 2) :]]


def _load(arguments: argparse.Namespace) -> Model:
    return load(
        arguments.model,
        threads=arguments.threads,
        context=arguments.context,
        activations=arguments.activations,
        kv=arguments.kv,
        trust_template=arguments.trust_template,
        mtp=getattr(arguments, "mtp", None),
    )


def _protocol(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "window": arguments.window,
        "score": arguments.score,
        "stride": arguments.stride,
        "windows": arguments.windows,
        "progress": not arguments.quiet,
    }


def _options(arguments: argparse.Namespace) -> GenerationOptions:
    return {
        "max_tokens": arguments.max_tokens,
        "temperature": arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "min_p": arguments.min_p,
        "repetition_penalty": arguments.repetition_penalty,
        "seed": arguments.seed,
        "stop": arguments.stop,
        "ignore_eos": arguments.ignore_eos,
        "logprobs": getattr(arguments, "logprobs", False),
        "draft": arguments.draft,
    }


def _count(text: str) -> int | None:
    return None if text == "none" else int(text)


_count.__name__ = 'whole number or "none"'  # argparse shows it


def _file(name: str) -> str | Path:
    return standard_input() if name == "-" else path("the text's file", name)


def _result(result: Result) -> dict[str, Any]:
    usage = result.usage
    speeds = {name: getattr(usage, name) for name in ("prefill_tokens_per_second", "tokens_per_second")}
    said = asdict(result)
    del said["structure"], said["top_logprobs"]  # the command line asks for neither
    return {**said, "usage": {**asdict(usage), "total_tokens": usage.total_tokens, **speeds}}
