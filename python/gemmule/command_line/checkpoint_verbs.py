"""Verbs of the command line that deal with a checkpoint's files and run no model: pull, inspect, estimate, verify,
convert."""

from __future__ import annotations

import argparse

from ..arguments import path, shown
from ..checkpoints import hub
from ..checkpoints.estimation import KV_BITS, estimate
from ..checkpoints.inspection import inspect
from ..checkpoints.verification import verify
from ..conversion.converting import EMBEDDINGS, FORMATS, GRIDS, PLE_SCALES, SCALES, convert
from ..conversion.mobile_bits import BITS
from .command import Verb, add_output, print_found, print_json
from .figure import draw, figure_file
from .streams import say


def pull(arguments: argparse.Namespace) -> None:
    found = hub.pull(
        arguments.name,
        file=arguments.file,
        revision=arguments.revision,
        cache_dir=arguments.cache_dir,
        local_files_only=arguments.local_files_only,
        progress=not arguments.quiet,
    )
    if arguments.json:
        print_json({"repository": arguments.name, "path": str(found)})
    else:
        say(f"{found}\n")


def show(arguments: argparse.Namespace) -> None:
    figure = figure_file(arguments.plot)
    found = inspect(arguments.path)
    print_found(found, arguments)
    draw(found, figure)


def count(arguments: argparse.Namespace) -> None:
    found = estimate(arguments.path, context=arguments.context, kv=arguments.kv, mtp=arguments.mtp)
    print_found(found, arguments)


def check(arguments: argparse.Namespace) -> int:
    report = verify(arguments.path, progress=not arguments.quiet)
    print_found(report, arguments)
    return 0 if report.ok else 1


def write(arguments: argparse.Namespace) -> None:
    figure = figure_file(arguments.plot)
    report = convert(
        arguments.source,
        arguments.target,
        to=arguments.to,
        grid=arguments.grid,
        pure=arguments.pure,
        embeddings=arguments.embeddings,
        scales=arguments.scales,
        overrides=dict(arguments.overrides) or None,
        calibrate=None if arguments.calibrate is None else path("--calibrate", arguments.calibrate),
        activation_scales=arguments.activation_scales,
        weight_scales=arguments.weight_scales,
        ple_scale=arguments.ple_scale,
        allow_nonfinite=arguments.allow_nonfinite,
        force=arguments.force,
        threads=arguments.threads,
        progress=not arguments.quiet,
    )
    print_found(report, arguments)
    draw(report, figure)


def _override(text: str) -> tuple[str, int]:
    pattern, _, bits = text.rpartition("=")
    if not pattern or bits not in map(str, BITS):
        raise argparse.ArgumentTypeError(f"expected REGEX=BITS with 2, 4 or 8 bits, found {shown(text)}")
    return pattern, int(bits)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help='a folder, a GGUF file, a name on the hub, or "fairy"')
    add("target", metavar="TARGET", help="file or folder to be written")
    add("--to", required=True, choices=FORMATS, help='the format; "bf16" is a GGUF file if TARGET ends in .gguf')
    add("--grid", choices=GRIDS, default="recover", help='"q4_0": how scales are found (default: recover)')
    add("--pure", action="store_true", help='"q4_0": the embeddings too, as llama-quantize --pure has it')
    add("--embeddings", choices=EMBEDDINGS, default="q6_k", help='"q4_0": how the embeddings are stored')
    add("--scales", choices=SCALES, default="search", help='"mobile": how scales of rows are found (default: search)')
    add(
        "--override",
        dest="overrides",
        metavar="REGEX=BITS",
        type=_override,
        action="append",
        default=[],
        help='"mobile": 2, 4 or 8 bits for the modules in whose names REGEX is found',
    )
    add("--calibrate", metavar="TEXT", help='"mobile": a text file to find scales of activations and caches on')
    add("--activation-scales", metavar="FILE", help='"mobile": a safetensors file with those scales')
    add("--weight-scales", metavar="FILE", help='"mobile": a safetensors file with the scales of all rows')
    add("--ple-scale", choices=PLE_SCALES, default="layer", help='"mobile": scales of the per-layer embeddings')
    add("--allow-nonfinite", action="store_true", help="NaN and infinite weights become 0")
    add("--force", action="store_true", help="replace what exists")
    add("--threads", type=int, metavar="N", help="default: the processor's cores")
    add("--plot", metavar="FILE", help="also draw the errors of all tensors (.png, .svg, .pdf)")


def _add_pull(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help='"org/name", or "org/name:file.gguf" for one file')
    add("--file", metavar="FILE", help="the .gguf file to take, where there are several")
    add("--revision", metavar="REV", help="a branch, tag or commit (default: the main branch)")
    add("--cache-dir", metavar="PATH", help="where to keep it (default: the hub's own cache)")
    add("--local-files-only", action="store_true", help="look into the cache only")


def _add_path(parser: argparse.ArgumentParser) -> None:
    places = 'folder of a checkpoint, a GGUF file, a hub name that was pulled, or "fairy"'
    parser.add_argument("path", metavar="PATH", help=places)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", metavar="FILE", help="also draw bytes of layers and use of codes (.png, .svg, .pdf)")


def _add_estimate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--context", type=int, metavar="N", help="tokens (default: the checkpoint's maximum)")
    parser.add_argument("--kv", choices=("auto", *KV_BITS), default="auto", help="elements of the key/value cache")
    parser.add_argument("--mtp", metavar="PATH", help='with a drafter: folder, hub name, or "auto", the model\'s own')


VERBS = {
    "pull": Verb("download a checkpoint from the hub", pull, [_add_pull, add_output]),
    "inspect": Verb("show what a checkpoint holds", show, [_add_path, _add_inspect, add_output]),
    "estimate": Verb("tell how much memory a model will need", count, [_add_path, _add_estimate, add_output]),
    "convert": Verb("write a checkpoint in another format", write, [_add_convert, add_output]),
    "verify": Verb("look for damage in a checkpoint's files", check, [_add_path, add_output]),
}
