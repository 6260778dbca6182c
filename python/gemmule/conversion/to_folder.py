"""Checkpoints written as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..progress import Progress
from .hf_files import files_of_folder, files_of_gguf
from .opened import Opened, Written
from .output import new_folder
from .safetensors_file import INDEX, StTensor, index_of, lay_out

SHARD_BYTES = 5_000_000_000


def write_folder(source: Opened, place: Path, *, force: bool, bar: Progress) -> Written:
    """Writes a folder of bfloat16 tensors; arguments as `convert` has them."""
    kept = [t for t in source.tensors if t != source.copied_head and not t.name.endswith("_cache_scale")]
    left_out = tuple(tensor.name for tensor in source.tensors if tensor not in kept)

    def name(bare: str) -> str:
        return bare if bare.startswith("lm_head") else source.prefix + bare

    def adjust(config: dict[str, Any]) -> dict[str, Any]:
        tied = {"tie_word_embeddings": source.config.tie_word_embeddings}
        plain = {key: value for key, value in config.items() if key != "quantization_config"} | tied
        return plain | {"text_config": plain["text_config"] | tied} if "text_config" in plain else plain

    if source.is_gguf:
        files = files_of_gguf(source.path, source.core.model, source.config, "bfloat16", adjust)
    else:
        files = files_of_folder(source.path, adjust)

    targets = [StTensor(name(tensor.name), "BF16", tensor.shape) for tensor in kept]
    layouts = lay_out(targets, SHARD_BYTES)
    index = index_of(layouts, targets)
    reports = []
    with new_folder(place, sources=source.files, force=force) as folder:
        for file_name, content in (files | ({INDEX: index} if index else {})).items():
            folder.write(file_name, content)
        for layout in layouts:
            file = folder.create(layout.file, layout.size)
            file.write(layout.header)
            reports += [
                source.write(tensor, name(tensor.name), "bf16", "recover", file, layout.offsets[name(tensor.name)], bar)
                for tensor in kept
                if name(tensor.name) in layout.offsets
            ]
    return Written(tuple(reports), left_out)
