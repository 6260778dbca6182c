"""One checkpoint into another, tensor by tensor."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .. import arguments, checkpoint, hub
from ..progress import Progress
from .opened import Opened
from .report import ConvertReport
from .to_folder import write_folder
from .to_gguf import write_gguf

FORMATS = ("q4_0", "q8_0", "bf16")
GRIDS = ("recover", "llama")
EMBEDDINGS = ("q6_k", "q4_0")


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str,
    grid: str = "recover",
    pure: bool = False,
    embeddings: str = "q6_k",
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
        to: "q4_0" or "q8_0", a GGUF file that llama.cpp loads; or "bf16", a GGUF file where the target's name ends in
            ".gguf", else a Hugging Face folder.
        grid: how "q4_0" finds the scale of a block of 32 weights. "recover": the scale with which weights that lie on a
            Q4_0 grid come back bit for bit, as those of quantization-aware training do; where there is none, the least
            squared error. "llama": llama.cpp's rule, bit for bit.
        pure: "q4_0": the embeddings too, and what is not quantized as F32.
        embeddings: "q6_k" or "q4_0", how "q4_0" stores the embedding tables.
        force: replace a target that exists.
        threads: None: the processor's cores.
        progress: show a bar, where standard error is a terminal or a notebook.

    Raises:
        ArgumentError: an argument is out of its range; the target exists.
        FormatError: the source is broken, or holds a NaN or an infinity.
        UnsupportedError: the source is not a Gemma 4, or the format cannot hold it.
        ResourceError: the disk is full.
    """
    arguments.choice("to", to, FORMATS)
    arguments.choice("grid", grid, GRIDS)
    arguments.choice("embeddings", embeddings, EMBEDDINGS)
    core_threads = 0 if threads is None else arguments.integer("threads", threads, least=1, most=1024)
    start = time.perf_counter()
    opened = Opened(checkpoint.find(hub.locate(source)), core_threads)
    place = Path(target)
    with Progress(opened.bytes, "B", wanted=progress) as bar:
        if to == "bf16" and place.suffix != ".gguf":
            written = write_folder(opened, place, force=force, bar=bar)
        else:
            written = write_gguf(opened, place, to, grid=grid, pure=pure, embeddings=embeddings, force=force, bar=bar)
    return ConvertReport(
        source=str(opened.path),
        target=str(place),
        to=to,
        bytes=sum(tensor.bytes for tensor in written.tensors),
        tensors=written.tensors,
        left_out=written.left_out,
        seconds=time.perf_counter() - start,
    )
