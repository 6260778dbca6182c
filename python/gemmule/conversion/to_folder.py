"""Checkpoints written as Hugging Face folders of bfloat16."""

from __future__ import annotations

from pathlib import Path

from .folder import Floats, text_files, write_folder
from .opened import Opened, Written


def write_floats(source: Opened, place: Path, *, force: bool, progress: bool) -> Written:
    """Writes a folder of bfloat16 tensors; arguments as `convert` has them."""
    kept = [tensor for tensor in source.tensors if tensor != source.copied_head and not tensor.is_cache_scale]
    left_out = tuple(tensor.name for tensor in source.tensors if tensor not in kept)
    files = text_files(source, tied=source.config.tie_word_embeddings, quantization=None)
    parts = [Floats(tensor, source.full_name(tensor.name)) for tensor in kept]
    return Written(write_folder(source, place, files, parts, force=force, progress=progress), left_out)
