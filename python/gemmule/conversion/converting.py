"""One checkpoint into another, tensor by tensor."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from .. import arguments
from ..arguments import TokenIds
from ..checkpoints import checkpoint, hub
from ..errors import ArgumentError
from ..outputs.target import check_target, resolve
from .activation_scales import read_activation_scales
from .calibration import calibrate as find_scales
from .opened import Opened
from .report import ConvertReport
from .to_folder import write_floats
from .to_gguf import write_gguf
from .to_mobile import write_mobile
from .to_w4a16 import write_w4a16

FORMATS = ("q4_0", "q8_0", "bf16", "mobile", "w4a16")
GRIDS = ("recover", "llama")
EMBEDDINGS = ("q6_k", "q4_0")
SCALES = ("search", "absmax", "recover")
PLE_SCALES = ("layer", "row")


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str,
    grid: str = "recover",
    pure: bool = False,
    embeddings: str = "q6_k",
    scales: str = "search",
    overrides: Mapping[str, int] | None = None,
    calibrate: str | Path | TokenIds | None = None,
    activation_scales: str | os.PathLike[str] | None = None,
    weight_scales: str | os.PathLike[str] | None = None,
    ple_scale: str = "layer",
    allow_nonfinite: bool = False,
    force: bool = False,
    threads: int | None = None,
    progress: bool = True,
) -> ConvertReport:
    """Writes the text model of a checkpoint in another format.

    The weights go through memory some megabytes at a time, whatever the model's size. The target appears under its name
    only when it is whole.

    Args:
        source: what `load` takes: a folder, a GGUF file, a name on the hub, "fairy".
        target: the file or folder to be written.
        to: "q4_0" or "q8_0", a GGUF file that llama.cpp loads; "bf16", a GGUF file where the target's name ends in
            ".gguf", else a Hugging Face folder; "mobile" (wNa8o8) or "w4a16" (compressed-tensors), a folder.
        grid: how "q4_0" finds the scale of a block of 32 weights. "recover": the scale with which weights that lie on a
            Q4_0 grid come back bit for bit, as those of quantization-aware training do; where there is none, the least
            squared error. "llama": llama.cpp's rule, bit for bit.
        pure: "q4_0": the embeddings too, and what is not quantized as F32.
        embeddings: "q6_k" or "q4_0", how "q4_0" stores the embedding tables.
        scales: how "mobile" finds the scale of a row. "search": the scale that training used, as far as the weights
            show it, else about the least squared error. "absmax": the largest weight has the last code. "recover":
            that of a dequantized mobile checkpoint, bit for bit; elsewhere as "search". Rows that the source has in the
            same bits are copied.
        overrides: {regular expression: bits} for "mobile": 2, 4 or 8 bits for the modules in whose names it is found;
            the others have the bits of the published E2B or E4B.
        calibrate: text, a file's path or token ids: "mobile" takes the scales of activations and of the key/value cache
            that have the least squared error on it. Some ten thousand tokens of what the model is for will do.
        activation_scales: a safetensors file with those scales instead. Without either, "mobile" takes the source's own
            if it has them; a model without them rounds no activations.
        weight_scales: a safetensors file with the scales of all rows, for "mobile": `scales` finds none then.
        ple_scale: the per-layer embeddings of "mobile" have a scale for each "layer" of a row, as published, or one a
            "row", which transformers 5.23 opens without help.
        allow_nonfinite: NaN and infinite weights become 0 instead of an error (but stay in rows that are copied).
        force: replace a target that exists.
        threads: None: the processor's cores.
        progress: show a bar, where standard error is a terminal or a notebook.

    Raises:
        ArgumentError: an argument is out of its range, or not for this format; the target exists.
        FormatError: the source is broken, or holds a NaN or an infinity; scales do not belong to it.
        UnsupportedError: the source is not a Gemma 4, or the format cannot hold it.
        ResourceError: the disk is full.
    """
    arguments.choice("to", to, FORMATS)
    arguments.choice("grid", grid, GRIDS)
    arguments.choice("embeddings", embeddings, EMBEDDINGS)
    arguments.choice("scales", scales, SCALES)
    arguments.choice("ple_scale", ple_scale, PLE_SCALES)
    arguments.flag("pure", pure)
    arguments.flag("force", force)
    arguments.flag("progress", progress)
    allow_nonfinite = arguments.flag("allow_nonfinite", allow_nonfinite)
    if overrides is not None and not isinstance(overrides, Mapping):
        raise arguments.refused("overrides", overrides, "a dict, {regular expression: bits}")
    _refuse_for_others(
        to, overrides=overrides, calibrate=calibrate, activation_scales=activation_scales, weight_scales=weight_scales
    )
    core_threads = 0 if threads is None else arguments.integer("threads", threads, least=1, most=1024)
    start = time.perf_counter()
    path = checkpoint.find(hub.locate(source))
    opened = Opened(path, core_threads, allow_nonfinite=allow_nonfinite)
    place = resolve(target)
    is_folder = to in ("mobile", "w4a16") or (to == "bf16" and place.suffix != ".gguf")
    check_target(place, is_folder=is_folder, sources=opened.files, force=force)  # before a text is read
    if to == "mobile":
        scales_found: Mapping[str, float] = {}
        if activation_scales is not None:
            scales_found = read_activation_scales(activation_scales, opened.shape)
        elif calibrate is not None:
            scales_found = find_scales(path, calibrate, threads=core_threads, progress=progress)
        written = write_mobile(
            opened,
            place,
            rule=scales,
            overrides=overrides or {},
            activations=scales_found,
            weight_scales=weight_scales,
            ple_scale=ple_scale,
            force=force,
            progress=progress,
        )
    elif to == "w4a16":
        written = write_w4a16(opened, place, force=force, progress=progress)
    elif is_folder:
        written = write_floats(opened, place, force=force, progress=progress)
    else:
        written = write_gguf(
            opened, place, to, grid=grid, pure=pure, embeddings=embeddings, force=force, progress=progress
        )
    return ConvertReport(
        source=str(opened.path),
        target=os.fspath(target),
        to=to,
        bytes=sum(tensor.bytes for tensor in written.tensors),
        tensors=written.tensors,
        left_out=written.left_out,
        notes=written.notes,
        seconds=time.perf_counter() - start,
    )


def _refuse_for_others(to: str, **mobile_only: object) -> None:
    given = [name for name, value in mobile_only.items() if value is not None]
    if to != "mobile" and given:
        raise ArgumentError(f'{given[0]} is for to="mobile"; to is "{to}"', remedy=f"Leave {given[0]} out.")
    if {"calibrate", "activation_scales"} <= set(given):
        raise ArgumentError("calibrate and activation_scales are both given", remedy="Leave one of them out.")
