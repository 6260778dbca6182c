"""The verb `bench` of the command line: how fast a model is, how fast the machine, and where the time goes."""

from __future__ import annotations

import argparse

from .. import benchmark
from ..checkpoints.checkpoint import DEMO
from .command import Verb, add_arithmetic, add_output, add_threads, print_found


def bench(arguments: argparse.Namespace) -> None:
    machine = {"threads": arguments.threads, "repeat": arguments.repeat, "progress": not arguments.quiet}
    model = {"activations": arguments.activations, "kv": arguments.kv, **machine}
    run = {"prompt": arguments.prompt, "tokens": arguments.tokens, **model}
    found: benchmark.Limits | benchmark.KernelTimes | benchmark.Profile | benchmark.Speed
    if arguments.limits:
        found = benchmark.limits(**machine)
    elif arguments.kernels:
        found = benchmark.kernels(arguments.model, **model)
    elif arguments.profile:
        found = benchmark.profile(arguments.model or DEMO, **run)
    else:
        found = benchmark.speed(arguments.model or DEMO, **run)
    print_found(found, arguments)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what", "Speed and memory, or one of these:").add_mutually_exclusive_group()
    what.add_argument("--limits", action="store_true", help="what this machine can do at most; needs no model")
    what.add_argument("--kernels", action="store_true", help="each kernel, as a share of its limit")
    what.add_argument("--profile", action="store_true", help="where the time of a prompt and of a token goes")
    group = parser.add_argument_group("model")
    places = 'folder, GGUF file or hub name (default: "fairy", the demo; --kernels: the shapes of E2B, random codes)'
    group.add_argument("-m", "--model", metavar="PATH", help=places)
    add_threads(group)
    add_arithmetic(group)
    add = parser.add_argument_group("measurement").add_argument
    add("--prompt", type=int, default=512, metavar="N", help="random tokens that are read at once (default: 512)")
    add("-n", "--tokens", type=int, default=64, metavar="N", help="tokens that are then made (default: 64)")
    add("--repeat", type=int, default=5, metavar="N", help="measurements, behind one that does not count (default: 5)")


VERBS = {"bench": Verb("measure speed and memory", bench, [_add_bench, add_output])}
