"""Checkpoints written as Hugging Face folders of bfloat16."""

from __future__ import annotations

from pathlib import Path

from .folder import Floats, text_files, write_folder
from .opened import Opened, Written


def write_floats(source: Opened, place: Path, *, force: bool, progress: bool) -> Written:
    """Writes a folder of bfloat16 tensors; arguments as `convert` has them."""
    files = text_files(source, tied=source.config.tie_word_embeddings, quantization=None)
    parts = [Floats(tensor, source.full_name(tensor.name)) for tensor in source.kept]
    return Written(write_folder(source, place, files, parts, force=force, progress=progress), source.left_out)
